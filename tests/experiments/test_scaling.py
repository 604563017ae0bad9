"""Compiling for devices that are not here."""

import importlib.util
import math
import os
import pathlib
import subprocess
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.scaling import costs, programs, run, topology
from vision_jax import nn, weights

ROOT = pathlib.Path(__file__).parents[2]
LIBTPU = ROOT / ".venv" / "tpu"


class CostsTest(absltest.TestCase):
  def test_known_program(self):
    """A product of known size, its parts on four devices, and their sum."""
    mesh = Mesh(np.array(jax.devices()[:4]), ("batch",))

    def step(w, x):
      return jax.lax.psum((x @ w).sum(0), "batch")

    program = jax.jit(
      jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(P(), P("batch")),
        out_specs=P(),
        check_vma=False,
      )
    )
    w = jax.ShapeDtypeStruct((32, 48), jnp.float32)
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32)
    w, x = (
      jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=NamedSharding(mesh, s))
      for a, s in ((w, P()), (x, P("batch")))
    )
    found = costs.costs_of(program.lower(w, x).compile())
    self.assertEqual(found.collectives, {"all-reduce": 48 * 4})
    self.assertEqual(found.arguments, 4 * (32 * 48 + 16 * 32))
    self.assertEqual(found.results, 48 * 4)
    product = 2 * 16 * 32 * 48
    self.assertBetween(found.flops, product, 1.2 * product)
    self.assertGreaterEqual(found.memory, found.arguments + found.results)

  def test_communication_is_read_from_the_text(self):
    text = """
  %all-reduce.1 = f32[10,4]{1,0} all-reduce(%p), replica_groups={}
  %ar = (f32[3]{0}, bf16[5]{0}) all-reduce(%a, %b), to_apply=%add
  %ag-start = (f32[2]{0}, f32[8]{0}) all-gather-start(%c), dimensions={0}
  %ag-done = f32[8]{0} all-gather-done(%ag-start)
  %start = f32[7]{0:T(128)S(1)} all-reduce-start(%d), channel_id=3
  %done = f32[7]{0} all-reduce-done(%start)
  %fusion = f32[99]{0} fusion(%all-reduce.1), kind=kLoop
"""
    self.assertEqual(
      costs.collective_bytes(text),
      {"all-reduce": 160 + 12 + 10 + 28, "all-gather": 32},
    )


class RunTest(absltest.TestCase):
  def test_unknown_config_lists_the_known(self):
    with self.assertRaisesRegex(SystemExit, "imagenet2012.*got 'imagenet'"):
      run.choose_config(run.Options(config="imagenet"))

  def test_a_batch_that_does_not_divide_is_refused(self):
    options = run.Options(batch_size=100, topology=("v5e:2x4",))
    with mock.patch.object(topology, "tpu_devices", return_value=[None] * 8):
      with self.assertRaisesRegex(SystemExit, "multiple of the 8 devices"):
        run.report(options)

  def test_largest_share_is_the_last_power_of_two_that_fits(self):
    """Of a step that needs 100 bytes and 3 for each picture of a device."""

    def compiled(config, num_classes, devices):
      share = config.batch_size // len(devices)
      if share > 512:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no room")
      return mock.Mock(memory=100 + 3 * share), 0.0

    config = run.choose_config(run.Options())
    with (
      mock.patch.object(run, "compile_step", compiled),
      mock.patch.object(run, "costs_of", lambda step: step),
    ):
      for limit, expected in (
        (100 + 3 * 64, 64),
        (99 + 3 * 64, 32),
        (9999, 512),
      ):
        share = run.largest_share(config, 10, [None] * 4, limit)
        self.assertEqual(share, expected)

  def test_what_does_not_fit_is_said(self):
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 40G of 16G hbm")
    with (
      mock.patch.object(run, "compile_step", side_effect=error),
      mock.patch.object(topology, "tpu_devices", return_value=[None] * 8),
      self.assertRaisesRegex(SystemExit, "512 pictures .* do not fit v5e:2x4"),
    ):
      run.report(run.Options(largest=False))

  def test_forced_devices(self):
    """What a step of a small network takes on eight CPU devices."""
    (record,) = run.report(
      run.Options(
        config="generated_textures",
        forced_devices=8,
        model="resnet_small",
        image_size=32,
        num_classes=20,
        batch_size=16,
      )
    )
    self.assertEqual((record["devices"], record["share"]), (8, 2))
    module = nn.backbones.resnet_small(20)
    shapes = weights.torch_shapes(module)
    floats = sum(
      math.prod(shape)
      for name, shape in shapes.items()
      if "running" not in name and "num_batches" not in name
    )
    sent = record["costs"]["collectives"]["all-reduce"]
    # All gradients once, and the statistics of the norms beside them.
    self.assertBetween(sent, 4 * floats, 4 * 1.1 * floats)
    self.assertIn("resnet_small, 32 px", run.table([record]))

  def test_missing_compiler_says_how_to_get_it(self):
    with mock.patch.object(importlib.util, "find_spec", return_value=None):
      with self.assertRaisesRegex(
        topology.MissingCompilerError, "pip install --no-deps"
      ):
        topology.tpu_devices("v5e:2x4")

  def test_tracing_as_on_another_platform_ends(self):
    with topology.compiling_for("tpu"):
      self.assertEqual(jax.default_backend(), "tpu")
    self.assertEqual(jax.default_backend(), "cpu")


@pytest.mark.slow
@pytest.mark.skipif(
  not LIBTPU.is_dir(), reason="no TPU compiler; `make tpu` installs it"
)
@pytest.mark.parametrize(
  "program", [name for name in programs.PROGRAMS if name not in programs.LARGE]
)
def test_every_step_and_prediction_compiles_for_a_tpu(program):
  """In a process of its own: what finds libtpu looks for chips."""
  environment = dict(os.environ, PYTHONPATH=str(LIBTPU), XLA_FLAGS="")
  done = subprocess.run(
    [sys.executable, "-m", "experiments.scaling.programs", program],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert "fits v5e" in done.stdout, done.stdout


if __name__ == "__main__":
  absltest.main()
