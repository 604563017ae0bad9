"""Counter-based random numbers: what fixes an example is its address.

Every generated set draws from NumPy's Philox under a key (seed, index) and a
counter that carries the generator's own number and an item. Two examples
never share numbers, and no example depends on the order in which examples
are drawn.
"""

import enum

import numpy as np

__all__ = ["Domain", "random_stream"]

_WORD = 2**64


class Domain(enum.IntEnum):
  """The number of each generator; a number is never used for two purposes.

  Example:
    >>> from vision_jax.data import Domain
    >>> int(Domain.DEAD_LEAVES)
    1
  """

  DEAD_LEAVES = 1
  TEXTURE_LABELS = 2
  TEXTURES = 3
  HOMOGRAPHIES = 4
  PHOTOMETRY = 5
  SHAPE_LABELS = 6
  SHAPES = 7
  STICK_POSE_SINGLE = 10
  STICK_POSE_MULTI = 11
  STICK_POSE_VIDEO = 12
  INSTANCES = 14
  INSTANCE_PLANS = 15
  INSTANCE_PICTURES = 16
  DIGIT_LABELS = 20
  DIGITS = 21
  DIGIT_DISTORTIONS = 22
  AUGMENTATION = 18
  ORDER = 19


def random_stream(
  domain: Domain, seed: int, index: int, *, item: int = 0
) -> np.random.Generator:
  """Random numbers of one item of one generated example.

  Convention:
    Philox-4x64 with key (seed, index) and counter (0, 0, item, domain). The
    low half of the counter counts draws, so streams cannot overlap.

  Args:
    domain: which generator asks.
    seed: number of the generated set, 0 <= seed < 2**64.
    index: number of the example in the set, 0 <= index < 2**64.
    item: part of the example that draws on its own, 0 <= item < 2**64.

  Returns:
    A NumPy generator at the start of that stream.

  Raises:
    ValueError: if `seed`, `index` or `item` is out of range.
    TypeError: if one of them is no integer.

  Example:
    >>> from vision_jax.data import Domain, random_stream
    >>> a = random_stream(Domain.TEXTURES, 0, 7).random()
    >>> a == random_stream(Domain.TEXTURES, 0, 7).random()
    True
    >>> a == random_stream(Domain.TEXTURES, 0, 8).random()
    False

  Source:
    J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
  """
  for name, word in (("seed", seed), ("index", index), ("item", item)):
    if isinstance(word, bool) or not isinstance(word, (int, np.integer)):
      raise TypeError(
        f"random_stream: `{name}` must be an integer, got {word!r}."
      )
    if not 0 <= word < _WORD:
      raise ValueError(
        f"random_stream: `{name}` must be in [0, 2**64), got {word}."
      )
  key = np.array([int(seed), int(index)], np.uint64)
  counter = np.array([0, 0, int(item), int(domain)], np.uint64)
  return np.random.Generator(np.random.Philox(counter=counter, key=key))
