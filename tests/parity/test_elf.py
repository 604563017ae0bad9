"""ELF against PyTorch's autograd and against ELF written in PyTorch."""

import copy

import chex
import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl.testing import parameterized

from experiments.benchmarks import torch_elf
from vision_jax import data, weights
from vision_jax.nn import backbones
from vision_jax.systems import elf


class ElfTest(chex.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.module = backbones.vgg16(num_classes=None)
    cls.variables = weights.random_variables(cls.module, seed=0)
    cls.network = torch_elf.make_vgg(
      cls.variables["params"], channels_last=False
    )
    cls.config = elf.SETTINGS["vgg16"]
    names = ("astronaut.png", "coins.png", "chelsea.png")
    cls.images = np.stack([data.load_photograph(n)[:240, :320] for n in names])

  def _tensor(self, images):
    normal = elf.preprocess(jnp.asarray(images), self.config)
    return torch.from_numpy(np.array(normal)).permute(0, 3, 1, 2)

  def _saliency(self, layer, upto):
    """Ours and torch's in float32, and torch's in float64, [B, H, W, 3]."""
    ours = elf.saliency(
      self.module, self.variables, self.images, layer, self.config
    )[layer]
    network, tensor = self.network[:upto], self._tensor(self.images)
    theirs = torch_elf.saliency(network, tensor)
    exact = torch_elf.saliency(copy.deepcopy(network).double(), tensor.double())
    return np.asarray(ours), *(
      t.permute(0, 2, 3, 1).numpy() for t in (theirs, exact)
    )

  def test_saliency_equals_autograd(self):
    ours, theirs, _ = self._saliency("pool2", 10)
    self.assertGreater(theirs.std(), 0)
    # The derivative jumps where rounding decides a ReLU or a maximum, and two
    # float32 implementations then differ in all pixels that such a unit sees:
    # on one CPU nowhere, on another in 0.5 % of the pixels.
    differ = np.abs(ours - theirs) > 1e-4 * theirs.max()
    self.assertLess(differ.mean(), 0.01)

  def test_deep_saliency_is_as_exact_as_torch(self):
    """The derivative jumps where a ReLU or a maximum is decided by rounding.

    Behind ten layers such units are many, and two float32 implementations
    differ wherever one of them is seen; so both are compared with float64.
    """
    ours, theirs, exact = self._saliency("pool4", 24)
    errors = {}
    for name, value in (("ours", ours), ("torch", theirs)):
      errors[name] = np.abs(value - exact) / exact.max()
      print(
        f"{name}: mean {errors[name].mean():.1e}, median "
        f"{np.median(errors[name]):.1e}, above 1e-4: "
        f"{(errors[name] > 1e-4).mean():.2%}"
      )
    self.assertLess(np.median(errors["ours"]), 1e-5)
    self.assertLess(errors["ours"].mean(), 2 * errors["torch"].mean() + 1e-6)

  @parameterized.parameters(("pool2", 10), ("pool4", 24))
  def test_saliency_equals_autograd_in_float64(self, layer, upto):
    with jax.enable_x64(True):
      got = elf.saliency(
        self.module,
        self.variables,
        np.float64(self.images[:1]),
        layer,
        self.config,
      )[layer]
      expected = torch_elf.saliency(
        copy.deepcopy(self.network[:upto]).double(),
        self._tensor(np.float64(self.images[:1])),
      )
    self.assertEqual(got.dtype, np.float64)
    expected = expected.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-9 * expected.max())

  def test_key_points_and_descriptors_equal_the_torch_pipeline(self):
    got = elf.extract(self.module, self.variables, self.images, self.config)
    extractor = torch_elf.Extractor(self.network[:10], self.network[10:])
    for i, (xy, scores, descriptors) in enumerate(
      extractor(self._tensor(self.images))
    ):
      valid = np.asarray(got.valid[i])
      ours = {
        tuple(p): (s, d)
        for p, s, d in zip(
          np.asarray(got.xy[i])[valid],
          np.asarray(got.scores[i])[valid],
          np.asarray(got.descriptors[i])[valid],
          strict=True,
        )
      }
      self.assertGreater(len(ours), 10)
      common = [
        (ours[tuple(p)], s, d)
        for p, s, d in zip(
          xy.numpy().astype(np.float32),
          scores.detach().numpy(),
          descriptors.numpy(),
          strict=True,
        )
        if tuple(p) in ours
      ]
      # Rounding may swap two neighbours of almost equal saliency.
      self.assertGreaterEqual(len(common), 0.97 * max(len(ours), len(xy)))
      differ = 0  # as in test_saliency_equals_autograd
      for (our_score, our_descriptor), score, descriptor in common:
        differ += abs(our_score - score) > 1e-3 * score
        np.testing.assert_allclose(our_descriptor, descriptor, atol=2e-4)
      self.assertLess(differ, 0.02 * len(common))
