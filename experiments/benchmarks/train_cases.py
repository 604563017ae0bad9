"""Rows of the benchmark: whole train steps.

Forward, backward, batch statistics and an update by SGD with momentum, on one
device, with the library's own data-parallel step.
"""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from vision_jax import train, weights
from vision_jax.nn import backbones, layer_table

_F = torch.nn.functional
_RATE, _MOMENTUM = 0.01, 0.9


def _batch(size: int, rows: int, num_classes: int) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  coarse = rng.normal(size=(rows, size // 8, size // 8, 3))
  images = coarse.repeat(8, 1).repeat(8, 2) + rng.normal(
    scale=0.3, size=(rows, size, size, 3)
  )
  labels = rng.integers(num_classes, size=rows).astype(np.int32)
  return {"image": images.astype(np.float32), "label": labels}


class _Ours:
  """The step of `train.make_step`; the state goes on from call to call."""

  def __init__(self, module: Any, variables: Any, batch: Any, **options: Any):
    def loss_fn(params, batch_stats, batch, key):
      del key
      (logits, _), updates = module.apply(
        {"params": params, "batch_stats": batch_stats},
        batch["image"],
        mutable=["batch_stats"],
        **options,
      )
      losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, batch["label"]
      )
      terms = {"cross_entropy": (losses.sum(), len(losses))}
      return terms, {"batch_stats": updates.get("batch_stats", {})}

    tx = optax.sgd(_RATE, _MOMENTUM)
    self._step = train.make_step(loss_fn, tx, devices=jax.devices()[:1])
    self._state = train.create_state(
      variables["params"], variables["batch_stats"], tx, jax.random.key(0)
    )
    self._batch = jax.tree.map(jnp.asarray, batch)

  def __call__(self) -> float:
    """One update; its loss."""
    self._state, metrics = self._step(self._state, self._batch)
    return float(jax.block_until_ready(metrics)["loss"])


class _Torch:
  """The same update in PyTorch."""

  def __init__(self, network: torch.nn.Module, images: Any, labels: Any):
    self._network, self._images, self._labels = network, images, labels
    self._optimizer = torch.optim.SGD(
      network.parameters(), _RATE, momentum=_MOMENTUM
    )

  def __call__(self) -> float:
    """One update; its loss."""
    self._optimizer.zero_grad(set_to_none=True)
    loss = torch.nn.functional.cross_entropy(
      self._network(self._images), self._labels
    )
    loss.backward()
    self._optimizer.step()
    return float(loss.detach())


def _beside_torch(
  ours: _Ours, make: Callable[[], torch.nn.Module], batch: Any
) -> dict[str, Any]:
  """Ours and three forms of the same network in PyTorch; their losses agree."""
  contestants: dict[str, Any] = {"vision_jax": ours}
  labels = torch.from_numpy(batch["label"].astype(np.int64))
  for kind in ("eager", "channels_last", "compile"):
    network: Any = make()
    images = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).contiguous()
    if kind != "eager":
      network = network.to(memory_format=torch.channels_last)
      images = images.to(memory_format=torch.channels_last)
    if kind == "compile":
      network = torch.compile(network)
    contestants[f"torch {kind}"] = _Torch(network, images, labels)
  losses = {k: [run() for _ in range(3)] for k, run in contestants.items()}
  for kind, found in losses.items():
    np.testing.assert_allclose(
      found, losses["torch eager"], rtol=2e-3, err_msg=kind
    )
  return contestants


def train_step(name: str, size: int, rows: int):
  """One update of a network on `rows` pictures of `size` pixels."""
  from tests.parity.torchvision_shim import torchvision

  module = backbones.MODELS[name]()
  variables = weights.random_variables(module, seed=0)
  state = weights.variables_to_state_dict(module, variables)
  batch = _batch(size, rows, 1000)
  ours = _Ours(module.clone(axis_name="batch"), variables, batch, train=True)

  def make() -> torch.nn.Module:
    network = getattr(torchvision.models, name)()
    network.load_state_dict(
      {k: torch.from_numpy(np.array(v)) for k, v in state.items()},
      strict=False,
    )
    return network.train()

  contestants = _beside_torch(ours, make, batch)
  flops = sum(r.flops for r in layer_table(module, image_size=(size, size)))
  return contestants, {"flops": 3 * rows * flops}


class _TorchTransformer(torch.nn.Module):
  """`experiments.stn`'s network for RTS, with our parameters."""

  def __init__(self, params: Any, looks: int, size: int):
    super().__init__()
    self.looks, self.size = looks, size
    flat = flax.traverse_util.flatten_dict(params, sep="_")
    for name, value in flat.items():
      array = np.array(value)
      if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
      elif array.ndim == 2:
        array = array.T
      tensor = torch.from_numpy(np.ascontiguousarray(array))
      self.register_parameter(name, torch.nn.Parameter(tensor))

  def _layer(self, function: Any, name: str, x: torch.Tensor) -> torch.Tensor:
    kernel, bias = (getattr(self, f"{name}_{n}") for n in ("kernel", "bias"))
    return function(x, kernel, bias)

  def _flat(self, x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1).flatten(1)

  def _localise(self, x: torch.Tensor) -> torch.Tensor:
    name = "transformer_localisation"
    for k in (1, 2):
      x = _F.max_pool2d(x, 2)
      x = _F.relu(self._layer(_F.conv2d, f"{name}_conv{k}", x))
    x = _F.relu(self._layer(_F.linear, f"{name}_fc", self._flat(x)))
    x = self._layer(_F.linear, "transformer_regression", x)
    return x.reshape(-1, 2, 3)

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """[B, 1, H, W] -> logits."""
    last = torch.tensor([[[0.0, 0, 1]]]).expand(len(images), 1, 3)
    total, seen = torch.eye(3).expand(len(images), 3, 3), images
    for look in range(self.looks):
      total = total @ torch.cat([self._localise(seen), last], 1)
      side = self.size if look == self.looks - 1 else images.shape[-1]
      grid = _F.affine_grid(
        total[:, :2], [len(images), 1, side, side], align_corners=False
      )
      seen = _F.grid_sample(images, grid, align_corners=False)
    x = _F.avg_pool2d(seen, 2)
    for k in (1, 2):
      x = _F.relu(self._layer(_F.conv2d, f"classifier_conv{k}", x))
      x = _F.max_pool2d(x, 2)
    return self._layer(_F.linear, "classifier_logits", self._flat(x))


def transformer_step(rows: int):
  """One update of a CNN behind an affine transformer, on 42 x 42 pixels."""
  from experiments.stn import networks

  module = networks.make_network("ST-CNN Aff", "RTS")
  batch = _batch(48, rows, 10)
  batch["image"] = np.ascontiguousarray(batch["image"][:, :42, :42, :1])
  variables = module.init(jax.random.key(0), jnp.asarray(batch["image"]))
  variables = {**variables, "batch_stats": {}}
  looks, (size, _) = module.transformer.num_steps, module.transformer.size
  contestants = _beside_torch(
    _Ours(module, variables, batch),
    lambda: _TorchTransformer(variables["params"], looks, size),
    batch,
  )
  return contestants, {}
