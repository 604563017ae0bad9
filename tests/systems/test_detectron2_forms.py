"""Segmentation networks in detectron2's form: golden scores."""

import pathlib

import jax
import numpy as np
import pytest

from tests.golden import make_backbones, make_detectron2
from vision_jax import weights

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("name", make_detectron2.NAMES)
def test_equal_to_torch(name):
  golden = np.load(GOLDEN / f"detectron2_{name}.npz")
  state = make_backbones.random_state(golden)
  module = make_detectron2.modules()[name]
  variables = weights.detectron2_to_variables(module, state)
  got = jax.jit(module.apply)(variables, make_backbones.images())["out"]
  assert got.shape == tuple(golden["shape"])
  sample = golden["sample"]
  assert len(np.unique(sample)) > 10
  flat = np.asarray(got).reshape(-1)
  np.testing.assert_allclose(
    flat[make_backbones.sample_indices(flat.size)],
    sample,
    atol=1e-4 * golden["largest"],
  )
