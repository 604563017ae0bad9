"""Rows of the benchmark: whole train steps.

Forward, backward, batch statistics and an update by SGD with momentum, on one
device, with the library's own data-parallel step.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from vision_jax import train, weights
from vision_jax.nn import backbones, layer_table

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

  def __init__(self, module: Any, variables: Any, batch: Any):
    def loss_fn(params, batch_stats, batch, key):
      del key
      (logits, _), updates = module.apply(
        {"params": params, "batch_stats": batch_stats},
        batch["image"],
        train=True,
        mutable=["batch_stats"],
      )
      losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, batch["label"]
      )
      terms = {"cross_entropy": (losses.sum(), len(losses))}
      return terms, {"batch_stats": updates["batch_stats"]}

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


def train_step(name: str, size: int, rows: int):
  """One update of a network on `rows` pictures of `size` pixels."""
  from tests.parity.torchvision_shim import torchvision

  module = backbones.MODELS[name]()
  variables = weights.random_variables(module, seed=0)
  state = weights.variables_to_state_dict(module, variables)
  batch = _batch(size, rows, 1000)
  labels = torch.from_numpy(batch["label"].astype(np.int64))
  contestants: dict[str, Any] = {
    "vision_jax": _Ours(module.clone(axis_name="batch"), variables, batch)
  }
  for kind in ("eager", "channels_last", "compile"):
    network = getattr(torchvision.models, name)()
    network.load_state_dict(
      {k: torch.from_numpy(np.array(v)) for k, v in state.items()},
      strict=False,
    )
    network = network.train()
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
  flops = sum(r.flops for r in layer_table(module, image_size=(size, size)))
  return contestants, {"flops": 3 * rows * flops}
