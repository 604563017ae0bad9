"""ELF against PyTorch's autograd and against ELF written in PyTorch."""

import chex
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

  @parameterized.parameters(("pool2", 10), ("pool4", 24))
  def test_saliency_equals_autograd(self, layer, upto):
    got = elf.saliency(
      self.module, self.variables, self.images, layer, self.config
    )[layer]
    expected = torch_elf.saliency(
      self.network[:upto], self._tensor(self.images)
    )
    expected = expected.permute(0, 2, 3, 1).numpy()
    self.assertGreater(expected.std(), 0)
    np.testing.assert_allclose(got, expected, atol=1e-4 * expected.max())

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
      self.assertGreater(len(ours), 40)
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
      for (our_score, our_descriptor), score, descriptor in common:
        np.testing.assert_allclose(our_score, score, rtol=1e-3)
        np.testing.assert_allclose(our_descriptor, descriptor, atol=2e-4)
