"""ELF against PyTorch's autograd and against ELF written in PyTorch."""

import copy

import chex
import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl.testing import parameterized

from experiments.benchmarks import torch_elf
from vision_jax import data, nn, weights
from vision_jax.nn import backbones
from vision_jax.systems import elf


def _seen_by_near_ties(network, images, module):
  """Pixels [B, H, W] that a pooling window without a clear maximum can see."""
  network = copy.deepcopy(network).double()
  info = nn.endpoint_info(module)
  batch, _, height, width = images.shape
  unsure = np.zeros((batch, height, width), bool)
  x, pools = images.double(), 0
  for layer in network:
    if isinstance(layer, torch.nn.MaxPool2d):
      pools += 1
      windows = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
      top = windows.topk(2, dim=-1).values
      limit = 2e-6 * float(x.abs().max())
      close = (top[..., 0] - top[..., 1] < limit) & (top[..., 0] > 0)
      stride, offset, _, field = info[f"pool{pools}"]
      for b, y, x_cell in torch.nonzero(close.any(1)).tolist():
        half = (field - 1) / 2
        row, col = stride * y + offset, stride * x_cell + offset
        unsure[
          b,
          max(0, int(row - half)) : int(row + half) + 1,
          max(0, int(col - half)) : int(col + half) + 1,
        ] = True
    x = layer(x)
  return unsure


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
    """Where rounding decides no maximum; elsewhere float64 is compared."""
    got = elf.saliency(
      self.module, self.variables, self.images, layer, self.config
    )[layer]
    tensor = self._tensor(self.images)
    expected = torch_elf.saliency(self.network[:upto], tensor)
    expected = expected.permute(0, 2, 3, 1).numpy()
    error = np.abs(np.asarray(got) - expected) / expected.max()
    unsure = _seen_by_near_ties(self.network[:upto], tensor, self.module)
    print(f"{layer}: {unsure.mean():.1%} of the pixels depend on a near tie")
    self.assertLess(unsure.mean(), 0.6)
    self.assertLess(error[~unsure].max(), 1e-4)

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
      for (our_score, our_descriptor), score, descriptor in common:
        np.testing.assert_allclose(our_score, score, rtol=1e-3)
        np.testing.assert_allclose(our_descriptor, descriptor, atol=2e-4)
