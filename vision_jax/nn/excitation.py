r"""Top-down passes: which pixels does a cell of a feature map stand on?

A unit i hands its mass to the units j that excite it, in proportion to what
they give it, :math:`p_j = \sum_i p_i\, w^+_{ij} x_j / \sum_k w^+_{ik} x_k`
with :math:`w^+ = \max(w, 0)`. For any linear layer f this is

  :math:`p_{in} = x' \odot f^T_{w^+}(p_{out} \oslash f_{w^+}(x'))`,

without bias; x' is the input, shifted where the rule says so. Values are those
of the network; only derivatives are replaced, layer by layer, by interception
of the module calls, so that one `jax.vjp` serves all seeds:

=============  ==================  ====================  ====================
Layer          ``prm``             ``ebp``               ``ebp_folded``
=============  ==================  ====================  ====================
Conv, Dense    x' = x - min x      x' = x                w takes in the
                                                         BatchNorm behind it;
                                                         x' = x - min(x, 0)
BatchNorm      derivative          identity              (folded)
ReLU           derivative          derivative            identity
max-pool       derivative          derivative            derivative
average-pool,  derivative          x_j / sum x           x'_j / sum x'
channel mean
a + b          to both branches    a / (a + b), b / ..   of a+ and b+; 1/2, 1/2
                                                         where both are 0
=============  ==================  ====================  ====================

Only ``ebp_folded`` is a probability: its mass is conserved.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.nn import convolution, layers

__all__ = ["TopDownRule", "top_down"]

TopDownRule = Literal["prm", "ebp", "ebp_folded"]

# No excitation can be told apart in these.
_GATES = (
  layers.Multiply,
  layers.HardSwish,
  layers.HardSigmoid,
  layers.Sigmoid,
)
_ACTIVATIONS = (layers.Relu, layers.Relu6, layers.LeakyRelu)
_POOLS = (layers.AvgPool, layers.AdaptiveAvgPool)

# Denominators up to the first are taken for 0; the second is added to them.
_GUARDS = {
  "prm": (1e-10, 1e-10),
  "ebp": (0.0, 1e-20),
  "ebp_folded": (1e-12, 0.0),
}


def _inverse(n: jax.Array, rule: str) -> jax.Array:
  """1 / n, and 0 where there is nothing to share."""
  least, added = _GUARDS[rule]
  empty = n == 0 if least == 0 else n <= least
  return jnp.where(empty, 0, 1 / (jnp.where(empty, 1, n) + added))


def _shift(x: jax.Array, rule: str) -> jax.Array:
  """The input x' of the table; the minimum is that of each image."""
  if rule == "ebp":
    return x
  low = x.min(tuple(range(1, x.ndim)), keepdims=True)
  return x - (low if rule == "prm" else jnp.minimum(low, 0))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _share(run, rule, x, kernel, y):
  """Y; its mass goes to x in proportion to w+ x'. `run`: linear in x."""
  del run, rule, x, kernel
  return y


def _share_forward(run, rule, x, kernel, y):
  shifted, positive = _shift(x, rule), jnp.maximum(kernel, 0)
  return y, (shifted, positive, _inverse(run(shifted, positive), rule))


def _share_backward(run, rule, saved, mass):
  shifted, positive, inverse = saved
  _, pull = jax.vjp(lambda x: run(x, positive), shifted)
  return shifted * pull(mass * inverse)[0], None, None


_share.defvjp(_share_forward, _share_backward)


@jax.custom_vjp
def _keep(x, y):
  """Y; its mass goes to x unchanged."""
  del x
  return y


_keep.defvjp(lambda x, y: (y, None), lambda _, mass: (mass, None))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _split(rule, a, b):
  """A + b; its mass goes to both in proportion."""
  return a + b


def _split_forward(rule, a, b):
  total = a + b
  if rule == "ebp":
    inverse = _inverse(total, rule)
    return total, (a * inverse, b * inverse)
  first, second = jnp.maximum(a, 0), jnp.maximum(b, 0)
  empty = first + second <= 0
  part = jnp.where(empty, 0.5, first / jnp.where(empty, 1, first + second))
  return total, (part, 1 - part)


_split.defvjp(
  _split_forward, lambda rule, parts, mass: (mass * parts[0], mass * parts[1])
)


def _conv(module: layers.Conv, x: jax.Array, kernel: jax.Array) -> jax.Array:
  return convolution.conv2d(
    x,
    kernel,
    stride=module.stride,
    padding=module.pad(),
    dilation=module.dilation,
    groups=module.groups,
  )


def _dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return jnp.matmul(x, kernel, precision="highest")


class _Substitute:
  """The interceptor of one pass: layers with the derivatives of a rule."""

  def __init__(self, rule: str, stop_at: str | None, probe: Any = None):
    self.rule, self.stop_at, self.probe = rule, stop_at, probe
    self.stop_shape: Any = None
    # Results of convolutions: id -> (result, function, x, kernel). Keeps the
    # results alive, so that ids stay unique.
    self.products: dict[int, tuple[Any, ...]] = {}

  def __call__(self, next_fun, args, kwargs, context):
    module = context.module
    y = next_fun(*args, **kwargs)
    if context.method_name != "__call__":
      return y
    name = ".".join(module.path)
    if isinstance(module, _GATES):
      raise ValueError(
        f"top_down: no rule is defined for {type(module).__name__} ({name!r}); "
        "use a network without gates, such as a ResNet, VGG or DenseNet."
      )
    y = self._replace(module, name, args, y)
    if name == self.stop_at:
      self.stop_shape = jax.ShapeDtypeStruct(y.shape, y.dtype)
      y = y if self.probe is None else y + self.probe
    return y

  def _replace(self, module, name, args, y):
    """The result of a layer with the derivative of the rule."""
    rule = self.rule
    if isinstance(module, layers.Conv | layers.Dense):
      run: Callable = _dense
      if isinstance(module, layers.Conv):
        run = functools.partial(_conv, module)
      kernel = module.variables["params"]["kernel"].astype(y.dtype)
      shared = _share(run, rule, args[0], kernel, y)
      if rule == "ebp_folded":
        self.products[id(shared)] = (shared, run, args[0], kernel)
      return shared
    if rule == "prm":
      return y
    if isinstance(module, layers.BatchNorm):
      return self._norm(module, name, args[0], y)
    if isinstance(module, layers.Add):
      return _split(rule, *args)
    if isinstance(module, _POOLS):
      pool = functools.partial(_pool, module)
      return _share(pool, rule, args[0], jnp.zeros((), y.dtype), y)
    if isinstance(module, _ACTIVATIONS) and rule == "ebp_folded":
      return _keep(args[0], y)
    return y

  def _norm(self, module, name, x, y):
    """BatchNorm: the identity, or a part of the convolution before it."""
    if self.rule == "ebp":
      return _keep(x, y)
    if id(x) not in self.products:
      raise ValueError(
        'top_down: the rule "ebp_folded" is not defined for a BatchNorm '
        f'without a convolution before it ({name!r}); use "prm" or "ebp".'
      )
    _, run, before, kernel = self.products[id(x)]
    scale = module.variables["params"]["scale"]
    variance = module.variables["batch_stats"]["var"]
    gain = (scale * lax.rsqrt(variance + module.epsilon)).astype(y.dtype)
    folded = kernel * gain.reshape((1,) * (kernel.ndim - 1) + (-1,))
    return _share(run, self.rule, before, folded, y)


def _pool(module: nn.Module, x: jax.Array, kernel: jax.Array) -> jax.Array:
  """An average-pool of the same settings; it has no kernel."""
  del kernel
  pooled: Any = module.clone(parent=None, name=None).apply({}, x)
  return pooled


def _channel_shares(features: jax.Array, rule: str) -> jax.Array:
  """How the mass of a cell of the channel mean is divided, [..., C]."""
  if rule == "prm":
    return jnp.full_like(features, 1 / features.shape[-1])
  x = features
  if rule == "ebp_folded":
    x = x - jnp.minimum(x.min(), 0)
  return x * _inverse(x.sum(-1, keepdims=True), rule)


def top_down(
  apply_fn: Callable[[jax.Array], jax.Array],
  image: jax.Array,
  seeds: jax.Array,
  *,
  rule: TopDownRule = "prm",
  stop_at: str | None = None,
  chunk: int = 8,
) -> jax.Array:
  """Mass that seeds on a feature map put on the pixels, by a top-down rule.

  One forward pass serves all seeds; their backward passes run in groups of
  `chunk`, which bounds the memory. Rules: see the table of this module. Gates
  (squeeze and excitation, hard-swish, sigmoids) have no rule and are refused,
  as is a BatchNorm before a convolution (DenseNet) by "ebp_folded".

  Convention:
    One image; batch with vmap. Row p of the result belongs to seed p.

  Args:
    apply_fn: image -> the map that is seeded, through modules of
      `vision_jax.nn.layers`: features [h, w, C], whose channel mean is seeded,
      or the seeded map itself, [h, w] or [K].
    image: what the network reads (normalised), float [H, W, 3].
    seeds: mass on the map, float [P, h, w] (or [P, K]): one-hot for a cell.
    rule: "prm", "ebp" or "ebp_folded".
    stop_at: path of a layer, such as "maxpool", at whose result the pass ends:
      cheaper, and the result has its height and width.
    chunk: seeds that are propagated together.

  Returns:
    Maps [P, H, W], summed over channels. Not clipped: "prm" and "ebp" also
    give negative mass.

  Raises:
    ValueError: if `rule` is unknown, the seeds do not fit the map, the network
      has a layer without a rule or no layer `stop_at`.

  Example:
    >>> from vision_jax import nn
    >>> conv = nn.Conv(1, 3, padding=0, use_bias=False)
    >>> line = jnp.zeros((3, 3)).at[1].set(jnp.array([1.0, -1.0, 2.0]))
    >>> params = {"params": {"kernel": line[..., None, None]}}
    >>> image = jnp.broadcast_to(jnp.array([1.0, 2.0, 3.0]), (3, 3))[..., None]
    >>> seen = nn.top_down(lambda x: conv.apply(params, x[None])[0], image,
    ...                    jnp.ones((1, 1, 1)), rule="ebp_folded")
    >>> print(np.round(7 * np.asarray(seen[0, 1]), 3))
    [1. 0. 6.]

  Source:
    Zhang et al., "Top-down Neural Attention by Excitation Backprop" (arXiv
    1608.00507), eq. 4 to 6; Zhou et al., "Weakly Supervised Instance
    Segmentation using Class Peak Response" (arXiv 1804.00880), sec. 3.2;
    checked against both rules written in torch (tests/parity).
  """
  if rule not in get_args(TopDownRule):
    raise ValueError(
      f"top_down: `rule` must be one of {', '.join(get_args(TopDownRule))}, "
      f"got {rule!r}."
    )
  if chunk < 1:
    raise ValueError(f"top_down: `chunk` must be at least 1, got {chunk}.")

  def forward(x, probe):
    substitute = _Substitute(rule, stop_at, probe)
    with nn.intercept_methods(substitute):
      return apply_fn(x), substitute.stop_shape

  if stop_at is None:
    features, pull = jax.vjp(lambda x: forward(x, None)[0], image)
  else:
    shape = _stop_shape(forward, image, stop_at)
    probe = jnp.zeros(shape.shape, shape.dtype)
    features, pull = jax.vjp(lambda d: forward(image, d)[0], probe)
  seeds = seeds.astype(features.dtype)
  cotangents = _to_cotangents(seeds, features, rule)

  def one(seed):
    mass = pull(cotangents(seed))[0].sum(-1)
    return mass if stop_at is None else mass[0]

  if len(seeds) <= chunk:
    return jax.vmap(one)(seeds)
  return lax.map(one, seeds, batch_size=chunk)


def _stop_shape(forward: Callable, image: jax.Array, stop_at: str) -> Any:
  """Shape of the result of the layer at which a pass ends."""
  found = []

  def look(x):
    y, shape = forward(x, None)
    found.append(shape)
    return y

  jax.eval_shape(look, image)
  if found[0] is None:
    raise ValueError(
      f"top_down: `stop_at` must be the path of a layer, got {stop_at!r}; "
      "`nn.layer_table` lists them."
    )
  return found[0]


def _to_cotangents(
  seeds: jax.Array, features: jax.Array, rule: str
) -> Callable[[jax.Array], jax.Array]:
  """From a seed to mass on the features."""
  size = features.shape
  if seeds.shape[1:] == size:
    return lambda seed: seed
  if features.ndim == 3 and seeds.shape[1:] == size[:2]:
    shares = _channel_shares(features, rule)
    return lambda seed: seed[..., None] * shares
  raise ValueError(
    f"top_down: `seeds` must be [P, {', '.join(map(str, size[:2]))}] for a map "
    f"of shape {size}, got {seeds.shape}."
  )
