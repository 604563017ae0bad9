"""Segmentation networks: golden scores, counts, loss and prediction."""

import math
import pathlib

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests.golden import make_backbones, make_segmentation
from vision_jax import nn, ops, weights
from vision_jax.systems import deeplab

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"

# With the auxiliary head, as published.
NUM_PARAMS = {
  "deeplabv3_mobilenet_v3_large": 11_029_328,
  "deeplabv3_resnet50": 42_004_074,
  "deeplabv3_resnet101": 60_996_202,
  "fcn_resnet50": 35_322_218,
  "fcn_resnet101": 54_314_346,
  "lraspp_mobilenet_v3_large": 3_221_538,
}


class _Backbone(flax.linen.Module):
  """The least that is one."""

  @flax.linen.compact
  def __call__(self, images, *, train=False):
    x = nn.Relu()(nn.Conv(8, 3, 2)(images))
    return None, {"layer1": x, "coarse": x}


@pytest.mark.usefixtures("quick_compile")
class NetworkTest(parameterized.TestCase):
  @parameterized.parameters(*NUM_PARAMS.items())
  def test_number_of_parameters(self, name, expected):
    shapes = weights.torch_shapes(deeplab.MODELS[name]())
    got = sum(
      math.prod(shape)
      for key, shape in shapes.items()
      if not key.endswith(("running_mean", "running_var"))
    )
    self.assertEqual(got, expected)

  def test_every_published_network_is_counted(self):
    self.assertEqual(
      set(NUM_PARAMS),
      {name for name in deeplab.MODELS if name in weights.CATALOG},
    )

  @parameterized.parameters(*make_segmentation.NAMES)
  def test_equal_to_torch(self, name):
    golden = np.load(GOLDEN / f"segmentation_{name}.npz")
    state = make_backbones.random_state(golden)
    module = make_segmentation.modules()[name]
    variables = weights.state_dict_to_variables(module, state)
    got = jax.jit(module.apply)(variables, make_backbones.images())
    found = {k.rpartition(".")[0] for k in golden.files} - {""}
    self.assertEqual(set(got), found)
    for key, value in got.items():
      self.assertEqual(value.shape, tuple(golden[f"{key}.shape"]))
      flat = np.asarray(value).reshape(-1)
      sample = golden[f"{key}.sample"]
      self.assertGreater(len(np.unique(sample)), 10)
      np.testing.assert_allclose(
        flat[make_backbones.sample_indices(flat.size)],
        sample,
        atol=1e-4 * golden[f"{key}.largest"],
        rtol=0,
      )

  @parameterized.parameters((8, (3, 4)), (16, (2, 2)))
  def test_output_stride(self, stride, size):
    module = deeplab.deeplabv3_resnet50(4, output_stride=stride, aux=False)
    images = jax.ShapeDtypeStruct((2, 17, 31, 3), jnp.float32)
    result, _ = jax.eval_shape(
      lambda k, x: module.init_with_output(k, x, method="coarse"),
      jax.eval_shape(lambda: jax.random.key(0)),
      images,
    )
    self.assertEqual(result.logits.shape, (2, *size, 4))
    self.assertEqual(result.fine.shape, (2, 5, 8, 256))

  def test_the_networks_of_detectron2(self):
    sizes = {"deeplabv3_r103": (4, 6), "deeplabv3_plus_r103": (16, 24)}
    for name, size in sizes.items():
      module = deeplab.MODELS[name](7)
      result, variables = jax.eval_shape(
        lambda k, x, m=module: m.init_with_output(k, x, method="coarse"),
        jax.eval_shape(lambda: jax.random.key(0)),
        jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32),
      )
      self.assertEqual(result.logits.shape, (1, *size, 7))
      stem = variables["params"]["backbone"]["conv3"]["kernel"]
      self.assertEqual(stem.shape, (3, 3, 64, 128))

  def test_from_torchvision_finds_the_classes(self):
    shapes = weights.torch_shapes(deeplab.lraspp_mobilenet_v3_large(6))
    module, variables = weights.from_torchvision(
      "lraspp_mobilenet_v3_large", weights.random_state_dict(shapes)
    )
    self.assertEqual(module.classifier.num_classes, 6)
    got = deeplab.segment(module, variables, jnp.ones((1, 33, 40, 3)))
    self.assertEqual((got.shape, got.dtype), ((1, 33, 40), jnp.int32))
    preprocess = weights.preprocessing("lraspp_mobilenet_v3_large")
    self.assertEqual((preprocess.resize, preprocess.crop), (520, None))


class TrainingTest(absltest.TestCase):
  def test_a_small_network_learns(self):
    rng = np.random.default_rng(1)
    images = jnp.asarray(rng.normal(size=(4, 16, 24, 3)), jnp.float32)
    labels = (images[..., 0] > 0).astype(jnp.int32)
    head = nn.DeepLabHead(2, (1,), 8)
    module = deeplab.Segmenter(_Backbone(), head, None, ("coarse",))
    variables = jax.jit(module.init)(jax.random.key(0), images)

    @jax.jit
    def step(variables, key):
      def loss(params):
        logits, updates = module.apply(
          {**variables, "params": params},
          images,
          train=True,
          mutable=["batch_stats"],
          rngs={"dropout": key},
        )
        total, count = ops.segmentation_loss(logits["out"], labels)
        return total / count, updates

      (value, updates), slope = jax.value_and_grad(loss, has_aux=True)(
        variables["params"]
      )
      params = jax.tree.map(
        lambda p, g: p - 0.1 * g, variables["params"], slope
      )
      return {"params": params, **updates}, value

    values = []
    for k in range(12):
      variables, value = step(variables, jax.random.key(k))
      values.append(float(value))
    self.assertLess(np.mean(values[-3:]), 0.9 * np.mean(values[:2]))


if __name__ == "__main__":
  absltest.main()
