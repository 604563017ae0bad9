"""What can be wrong with a file of weights, as exceptions."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["WeightsError", "WeightsMismatchError", "WeightsNotFoundError"]

_NUM_LISTED = 10


class WeightsError(ValueError):
  """A file of weights cannot be used; the message is one clear line.

  Example:
    >>> from vision_jax import weights
    >>> issubclass(weights.WeightsError, ValueError)
    True
  """


class WeightsNotFoundError(WeightsError, FileNotFoundError):
  """There is no such file of weights.

  Example:
    >>> from vision_jax import weights
    >>> issubclass(weights.WeightsNotFoundError, FileNotFoundError)
    True
  """


class WeightsMismatchError(WeightsError, KeyError):
  """Names or shapes of the weights are not those of the model.

  Attributes:
    missing: names that the model needs and the source lacks.
    unused: names of the source that the model has no place for.
    shapes: name -> (shape in the source, shape of the model), torch layout.

  Example:
    >>> from vision_jax import weights
    >>> try:
    ...   weights.from_torchvision("alexnet", {"fc.bias": np.zeros(3)})
    ... except weights.WeightsMismatchError as error:
    ...   print(len(error.missing), error.unused)
    16 ('fc.bias',)
  """

  missing: tuple[str, ...] = ()
  unused: tuple[str, ...] = ()
  shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

  def __str__(self) -> str:  # KeyError would quote the message
    return str(self.args[0]) if self.args else ""


def mismatch_error(
  where: str,
  missing: Sequence[str],
  unused: Sequence[str],
  shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> WeightsMismatchError:
  """Builds the error that lists both sides, at most ten names of each."""
  parts = []
  if missing:
    notes = _nearest(missing, unused)
    parts.append(f"{len(missing)} missing ({_listed(missing, notes)})")
  if unused:
    parts.append(f"{len(unused)} left over ({_listed(unused, {})})")
  if shapes:
    texts = {
      name: f"got {list(got)}, expected {list(expected)}"
      for name, (got, expected) in shapes.items()
    }
    parts.append(f"{len(shapes)} of another shape ({_listed(shapes, texts)})")
  error = WeightsMismatchError(
    f"{where}: the weights do not fit the model: {'; '.join(parts)}."
  )
  error.missing = tuple(missing)
  error.unused = tuple(unused)
  error.shapes = dict(shapes)
  return error


def _nearest(names: Sequence[str], others: Sequence[str]) -> dict[str, str]:
  """For the first names: the most similar one of the others."""
  nearest = {}
  for name in names[:_NUM_LISTED]:
    found = difflib.get_close_matches(name, others, n=1, cutoff=0.7)
    if found:
      nearest[name] = f"nearest {found[0]!r}"
  return nearest


def _listed(names: Iterable[str], notes: Mapping[str, str]) -> str:
  """The first ten names, with notes, and how many more there are."""
  names = list(names)
  texts = [
    f"{name!r}: {notes[name]}" if name in notes else repr(name)
    for name in names[:_NUM_LISTED]
  ]
  if len(names) > _NUM_LISTED:
    texts.append(f"and {len(names) - _NUM_LISTED} more")
  return ", ".join(texts)
