"""Optimizers and schedules by name, and parts of a network by parameter path.

Thin over optax: what is returned are its transformations and schedules, to be
used anywhere. A path is the keys of a parameter joined by ".", as in
"layer1.0.conv1.kernel".
"""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

__all__ = [
  "decay_mask",
  "make_optimizer",
  "make_schedule",
  "scale_by_path",
]

OPTIMIZERS = ("adam", "adamw", "lamb", "lars", "muon", "sgd")
SCHEDULES = ("constant", "cosine", "linear", "poly", "step")


def make_schedule(
  name: str,
  learning_rate: float,
  num_steps: int,
  *,
  warmup_steps: int = 0,
  warmup_factor: float = 0.0,
  end_factor: float = 0.0,
  power: float = 0.9,
  milestones: Sequence[int] = (),
  gamma: float = 0.1,
) -> optax.Schedule:
  """Learning rate after a linear warm-up, as a function of finished updates.

  With t updates finished, w warm-up updates, T in all, u = (t - w) / (T - w)
  and the end value e = `end_factor` times `learning_rate`:

  * "constant": `learning_rate`;
  * "cosine": e + (learning_rate - e) (1 + cos(pi u)) / 2;
  * "linear": e + (learning_rate - e) (1 - u);
  * "poly": e + (learning_rate - e) (1 - u)^power (DeepLab's with 0.9);
  * "step": `learning_rate` times `gamma` for every milestone m <= t.

  The linear scaling rule: a recipe's learning rate belongs to its global batch.
  With SGD, a batch k times as large takes k times the learning rate (and a
  warm-up of some epochs); with Adam and LAMB the square root of k is usual.
  Gradient accumulation and more devices change nothing in this: what counts is
  the number of examples of one update.

  Args:
    name: one of the schedules above.
    learning_rate: value after the warm-up, positive.
    num_steps: T, the number of updates of the whole run; the last value is kept
      beyond.
    warmup_steps: w, updates of the warm-up, less than `num_steps`.
    warmup_factor: share of `learning_rate` at the first update, in [0, 1].
    end_factor: share of `learning_rate` at the end of "cosine", "linear" and
      "poly", in [0, 1].
    power: exponent of "poly".
    milestones: for "step", increasing numbers of finished updates in
      [warmup_steps, num_steps), the warm-up included in the count.
    gamma: factor of "step", positive.

  Returns:
    Function of the number of finished updates, int [] -> float [].

  Raises:
    KeyError: if the name is unknown.
    ValueError: if a number is out of its range, or `milestones` are given for
      another schedule or missing for "step".

  Example:
    >>> from vision_jax import train
    >>> schedule = train.make_schedule("cosine", 0.1, 100, warmup_steps=20)
    >>> [round(float(schedule(t)), 3) for t in (0, 10, 20, 60, 100)]
    [0.0, 0.05, 0.1, 0.05, 0.0]

  Source:
    Cosine: Loshchilov and Hutter (arXiv 1608.03983). Poly: Chen et al. (arXiv
    1606.00915). Warm-up and scaling rule: Goyal et al. (arXiv 1706.02677).
  """
  _check_name("make_schedule", name, SCHEDULES)
  _check("make_schedule", "learning_rate", learning_rate, low=0.0)
  _check("make_schedule", "num_steps", num_steps, low=0)
  for argument, value in (
    ("warmup_factor", warmup_factor),
    ("end_factor", end_factor),
  ):
    if not 0 <= value <= 1:
      raise ValueError(
        f"make_schedule: `{argument}` must be in [0, 1], got {value}."
      )
  if not 0 <= warmup_steps < num_steps:
    raise ValueError(
      "make_schedule: `warmup_steps` must be in [0, `num_steps`), got "
      f"{warmup_steps} of {num_steps}."
    )
  rest = num_steps - warmup_steps
  if name == "step":
    marks = _checked_milestones(milestones, warmup_steps, num_steps)
    _check("make_schedule", "gamma", gamma, low=0.0)
    main = optax.piecewise_constant_schedule(
      learning_rate, {mark - warmup_steps: gamma for mark in marks}
    )
  elif milestones:
    raise ValueError(
      f"make_schedule: `milestones` are for 'step' only, got {milestones} for "
      f"{name!r}."
    )
  elif name == "constant":
    main = optax.constant_schedule(learning_rate)
  elif name == "cosine":
    main = optax.cosine_decay_schedule(learning_rate, rest, end_factor)
  else:
    _check("make_schedule", "power", power, low=0.0)
    main = optax.polynomial_schedule(
      learning_rate,
      learning_rate * end_factor,
      power if name == "poly" else 1.0,
      rest,
    )
  if not warmup_steps:
    return main
  warmup = optax.linear_schedule(
    learning_rate * warmup_factor, learning_rate, warmup_steps
  )
  return optax.join_schedules([warmup, main], [warmup_steps])


def make_optimizer(
  name: str,
  learning_rate: float | optax.Schedule,
  *,
  momentum: float = 0.9,
  nesterov: bool = False,
  b2: float = 0.999,
  eps: float | None = None,
  weight_decay: float = 0.0,
  decay_all: bool = False,
  clip_norm: float | None = None,
  factors: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
  """An optimizer with clipping, weight decay and factors by parameter path.

  In this order: gradients are clipped by their norm over all trained
  parameters; "sgd" and "adam" add `weight_decay` times the parameter to the
  gradient (torch's SGD and Adam); the optimizer named makes the update, where
  "adamw", "lamb", "lars" and "muon" have their own, decoupled or normalised,
  decay; `factors` scale it (`scale_by_path`), decay included.

  "muon" makes the momentum of each kernel orthogonal, as a matrix of all axes
  but the last by the last; what `decay_mask` leaves out follows "adamw". The
  updates have the size of AdamW's, so that learning rate and decay carry over.

  Args:
    name: "sgd", "adam", "adamw", "lamb", "lars" or "muon".
    learning_rate: a number, or a schedule (`make_schedule`).
    momentum: momentum of "sgd" and "lars", beta 1 of the others, in [0, 1).
    nesterov: Nesterov's form of the momentum; not for "lamb".
    b2: beta 2 of "adam", "adamw", "lamb" and "muon", in [0, 1).
    eps: what they and "lars" add to a denominator; None means 1e-8, for "lamb"
      1e-6 and for "lars" 0.
    weight_decay: at least 0.
    decay_all: whether biases and scales of normalisation decay as well; if not,
      `decay_mask` says what does. "lars" normalises what decays.
    clip_norm: largest norm of all gradients together; None does not clip.
    factors: see `scale_by_path`; 0 freezes.

  Returns:
    An optax transformation; make the state (`create_state`) and the step
    (`make_step`) with the same one.

  Raises:
    KeyError: if the name is unknown; its `init` raises it for a path of
      `factors` that no parameter has.
    ValueError: if a number is out of its range.

  Example:
    >>> from vision_jax import train
    >>> import optax
    >>> tx = train.make_optimizer("sgd", 0.5, weight_decay=0.1, clip_norm=1.0)
    >>> params = {"fc": {"kernel": jnp.ones((1, 1)), "bias": jnp.ones((1,))}}
    >>> grads = jax.tree.map(lambda p: 30.0 * p, params)
    >>> updates, _ = tx.update(grads, tx.init(params), params)
    >>> {k: round(float(u.sum()), 4) for k, u in updates["fc"].items()}
    {'bias': -0.3536, 'kernel': -0.4036}

  Source:
    SGD and Adam with the conventions of torch.optim; AdamW: Loshchilov and
    Hutter (arXiv 1711.05101); LAMB: You et al. (arXiv 1904.00962); LARS: You et
    al. (arXiv 1708.03888); Muon: Jordan et al. (2024), with the size of the
    updates of Liu et al. (arXiv 2502.16982, equation 4). All are optax's.
  """
  _check_name("make_optimizer", name, OPTIMIZERS)
  if not callable(learning_rate):
    _check("make_optimizer", "learning_rate", learning_rate, low=0.0)
  if not 0 <= momentum < 1 or not 0 <= b2 < 1:
    raise ValueError(
      "make_optimizer: `momentum` and `b2` must be in [0, 1), got "
      f"{momentum} and {b2}."
    )
  if not 0 <= weight_decay < math.inf:
    raise ValueError(
      f"make_optimizer: `weight_decay` must be at least 0, got {weight_decay}."
    )
  if nesterov and name == "lamb":
    raise ValueError("make_optimizer: `nesterov` must be False for 'lamb'.")
  mask = None if decay_all else decay_mask
  small = {} if eps is None else {"eps": eps}
  adam: dict[str, Any] = {"b1": momentum, "b2": b2, **small}
  parts: list[optax.GradientTransformation] = []
  if clip_norm is not None:
    _check("make_optimizer", "clip_norm", clip_norm, low=0.0)
    parts.append(optax.clip_by_global_norm(clip_norm))
  if name in ("sgd", "adam") and weight_decay:
    parts.append(optax.add_decayed_weights(weight_decay, mask))
  if name == "sgd":
    parts.append(optax.sgd(learning_rate, momentum or None, nesterov))
  elif name == "adam":
    parts.append(optax.adam(learning_rate, **adam, nesterov=nesterov))
  elif name == "adamw":
    parts.append(
      optax.adamw(
        learning_rate,
        **adam,
        weight_decay=weight_decay,
        mask=mask,
        nesterov=nesterov,
      )
    )
  elif name == "lamb":
    parts.append(
      optax.lamb(learning_rate, **adam, weight_decay=weight_decay, mask=mask)
    )
  elif name == "muon":
    parts.append(
      optax.contrib.muon(
        learning_rate,
        beta=momentum,
        eps=1e-8 if eps is None else eps,
        weight_decay=weight_decay,
        weight_decay_mask=mask,
        nesterov=nesterov,
        adam_b1=momentum,
        adam_b2=b2,
        adam_weight_decay=weight_decay if decay_all else 0.0,
        muon_weight_dimension_numbers=_as_matrices,
        consistent_rms=0.2,
      )
    )
  else:
    parts.append(
      optax.lars(
        learning_rate,
        weight_decay,
        mask or True,
        trust_ratio_mask=mask or True,
        momentum=momentum,
        nesterov=nesterov,
        **small,
      )
    )
  tx = optax.chain(*parts)
  return tx if factors is None else scale_by_path(tx, factors)


def decay_mask(params: Any) -> Any:
  """Which parameters weight decay is for: all but biases and norms' scales.

  Args:
    params: pytree of arrays.

  Returns:
    Tree of bool: False for leaves named "bias" or "scale" and for those with at
    most one axis.

  Example:
    >>> from vision_jax import train
    >>> fc = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones((3,))}
    >>> train.decay_mask({"fc": fc})
    {'fc': {'bias': False, 'kernel': True}}

  Source:
    He et al., Bag of Tricks (arXiv 1812.01187), section 3.1.
  """

  def decays(path: Any, leaf: Any) -> bool:
    name = jax.tree_util.keystr(path[-1:], simple=True)
    return len(leaf.shape) > 1 and name not in ("bias", "scale")

  return jax.tree_util.tree_map_with_path(decays, params)


def _as_matrices(params: Any) -> Any:
  """The axes by which Muon reads each kernel as a matrix; None: not at all."""

  def axes(kernel: bool, leaf: Any) -> Any:
    if not kernel:
      return None
    *rows, columns = range(leaf.ndim)
    return optax.contrib.MuonDimensionNumbers(tuple(rows), (columns,))

  return jax.tree.map(axes, decay_mask(params), params)


class _PathTransformation(optax.GradientTransformationExtraArgs):
  """A transformation that says which parameters it moves at all.

  Attributes:
    trained: parameters -> tree of bool, False where frozen.
  """

  trained: Callable[[Any], Any]


def scale_by_path(
  tx: optax.GradientTransformation, factors: Mapping[str, float]
) -> optax.GradientTransformation:
  """Learning-rate factors and frozen parts of a network by parameter path.

  A path stands for every parameter it leads to: "backbone.layer1" for
  "backbone.layer1.0.conv1.kernel", not for "backbone.layer10.0.conv1.kernel",
  and "" for all. Of several that fit, the longest decides; what none fits has
  factor 1. `{"": 0.0, "fc": 1.0}` trains nothing but "fc".

  The update that `tx` makes is multiplied by the factor, decoupled weight decay
  included: a factor of the learning rate. With the factor 0 a parameter is
  frozen: `tx` never sees it, so that it has no optimizer state, does not decay
  and does not count in the norm of clipping; and `make_step` neither computes
  its gradient nor counts it in "grad_norm".

  Use it outermost: inside `optax.chain` or another wrapper its updates are the
  same, but `make_step` cannot know what is frozen and computes all gradients.

  Note:
    Running statistics are no parameters: those of frozen layers still move, and
    the layers still normalise by the batch. Apply them with
    `use_running_average=True` (`train=False`) if they should not.

  Args:
    tx: any optax transformation, its learning rate included.
    factors: path -> factor, at least 0.

  Returns:
    An optax transformation; its `update` needs the parameters.

  Raises:
    ValueError: if a factor is negative or not finite; `init` raises it if
      everything is frozen.
    KeyError: from `init` and `update`, if no parameter has one of the paths.

  Example:
    >>> from vision_jax import train
    >>> import optax
    >>> factors = {"backbone": 0.1, "backbone.stem": 0.0}
    >>> tx = train.scale_by_path(optax.sgd(1.0), factors)
    >>> one = jnp.ones(())
    >>> params = {"backbone": {"stem": one, "layer1": one}, "fc": one}
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> jax.tree.map(lambda u: round(float(u), 4), updates)
    {'backbone': {'layer1': -0.1, 'stem': 0.0}, 'fc': -1.0}

  Source:
    Interface of this library.
  """
  for path, factor in factors.items():
    if not 0 <= factor < math.inf:
      raise ValueError(
        f"scale_by_path: `factors` must be at least 0, got {factor} for "
        f"{path!r}."
      )
  factors = dict(factors)
  inner = optax.with_extra_args_support(tx)

  def trained(params: Any) -> Any:
    return jax.tree.map(bool, _factor_tree(params, factors))

  def init(params: Any) -> Any:
    mask = trained(params)
    if not any(jax.tree.leaves(mask)):
      raise ValueError(
        f"scale_by_path: `factors` must leave something to train, got "
        f"{factors}, which freeze all."
      )
    return inner.init(select(mask, params))

  def update(
    grads: Any, state: Any, params: Any = None, **extra: Any
  ) -> tuple[Any, Any]:
    if params is None:
      raise ValueError("scale_by_path: `update` must be given the parameters.")
    tree = _factor_tree(params, factors)
    mask = jax.tree.map(bool, tree)
    updates, state = inner.update(
      select(mask, grads), state, select(mask, params), **extra
    )

    def scale(factor: float, change: Any, leaf: Any) -> Any:
      return change * factor if factor else jnp.zeros_like(leaf)

    return jax.tree.map(scale, tree, updates, params), state

  result = _PathTransformation(init, update)
  result.trained = trained
  return result


def trained_mask(tx: optax.GradientTransformation, params: Any) -> Any:
  """Tree of bool, False for what `tx` has frozen (see `scale_by_path`)."""
  if isinstance(tx, _PathTransformation):
    return tx.trained(params)
  return jax.tree.map(lambda leaf: True, params)


def select(mask: Any, tree: Any) -> Any:
  """`tree` without the leaves where `mask` is False."""
  return jax.tree.map(
    lambda keep, leaf: leaf if keep else optax.MaskedNode(), mask, tree
  )


def merge(mask: Any, selected: Any, tree: Any) -> Any:
  """`selected` where `mask` is True, else the leaves of `tree`."""
  return jax.tree.map(
    lambda keep, new, old: new if keep else old, mask, selected, tree
  )


def _factor_tree(params: Any, factors: Mapping[str, float]) -> Any:
  """The factor of every parameter; raises for paths that lead nowhere."""
  # The length in keys decides, with "" shortest; "a.b" is two keys.
  prefixes = [(p, p + "." if p else "") for p in factors]
  prefixes.sort(key=lambda pair: pair[1].count("."), reverse=True)
  used: set[str] = set()
  known: set[str] = set()

  def find(path: Any, leaf: Any) -> float:
    del leaf
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    known.update(name[:end] for end, c in enumerate(name + ".") if c == ".")
    fitting = [p for p, start in prefixes if (name + ".").startswith(start)]
    used.update(fitting)
    return float(factors[fitting[0]]) if fitting else 1.0

  tree = jax.tree_util.tree_map_with_path(find, params)
  for path in factors:
    if path not in used:
      near = difflib.get_close_matches(path, sorted(known), n=5, cutoff=0.0)
      raise KeyError(
        f"scale_by_path: `factors` must name parameters, got {path!r}, which "
        f"none of {len(jax.tree.leaves(params))} begins with; the nearest are "
        f"{', '.join(near)}."
      )
  return tree


def _checked_milestones(
  milestones: Sequence[int], warmup_steps: int, num_steps: int
) -> list[int]:
  """Milestones as a list, or an error."""
  marks = list(milestones)
  if (
    not marks
    or marks != sorted(set(marks))
    or not warmup_steps <= marks[0]
    or not marks[-1] < num_steps
  ):
    raise ValueError(
      "make_schedule: `milestones` must be increasing numbers in "
      f"[{warmup_steps}, {num_steps}) for 'step', got {marks}."
    )
  return marks


def _check_name(function: str, name: str, known: Sequence[str]) -> None:
  """Raises a KeyError that lists the known names."""
  if name not in known:
    raise KeyError(
      f"{function}: `name` must be one of {', '.join(known)}, got {name!r}."
    )


def _check(function: str, argument: str, value: float, *, low: float) -> None:
  """Raises if a number is not finite and above `low`."""
  if not low < value < math.inf:
    raise ValueError(
      f"{function}: `{argument}` must be finite and above {low:g}, got {value}."
    )
