"""What the TFDS builders of the generated sets share; see `builders.py`."""

import contextlib
import dataclasses
import functools
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any, ClassVar, NamedTuple

import cv2
import tensorflow_datasets as tfds
import tqdm

from vision_jax.data import storage

__all__ = ["Draw", "GeneratedBuilder", "GeneratedConfig", "Part"]

Draw = Callable[[int, int], Mapping[str, Any]]

# Uncompressed pixels in one file: a few seconds of drawing, and what a
# process holds in memory while the file is written.
_SHARD_BYTES = 2**27


class Part(NamedTuple):
  """Where a split comes from: position i is example `first + i` of `seed`.

  Attributes:
    seed: number of the generator's set.
    first: its first example.
    size: examples, where no other number is asked for.
    is_whole: whether there are no more than these.
  """

  seed: int
  first: int
  size: int
  is_whole: bool = False


@dataclasses.dataclass(eq=False)
class GeneratedConfig(tfds.core.BuilderConfig):
  """Which pictures a generated set draws.

  Attributes:
    size: (height, width) of a picture, pixels.
    num_frames: pictures in one example; 0 where there is no time.
  """

  size: tuple[int, int] = (64, 64)
  num_frames: int = 0


def _start_worker() -> None:
  """One thread for OpenCV: the processes share the cores."""
  cv2.setNumThreads(1)


def _draw_encoded(draw: Draw, seed: int, index: int) -> dict[str, Any]:
  """One example as it is stored; runs in the workers."""
  return storage.encode_example(draw(seed, index))


class GeneratedBuilder(  # type: ignore[call-arg]
  tfds.core.ShardBasedBuilder, skip_registration=True
):
  """What the builders share; (seed, index) fixes every example.

  TFDS's GeneratorBasedBuilder holds a split in memory and, from 1 GB on,
  needs TensorFlow for its files; hence the builder that writes file by file.
  The order is that of the generator.

  Attributes:
    CLASS_NAMES: the classes; empty where there are none.
    METADATA: what else the files say about the set.
  """

  CLASS_NAMES: ClassVar[tuple[str, ...]] = ()
  METADATA: ClassVar[Mapping[str, Any]] = {}
  # Nothing is downloaded. (Looking for checksums would need a package that
  # TFDS does not require.)
  url_infos = None

  def __init__(
    self,
    *,
    num_examples: Mapping[str, int] | None = None,
    num_workers: int = 0,
    progress: bool = False,
    **kwargs: Any,
  ) -> None:
    """As TFDS's builders; see `prepare_generated` for the other arguments."""
    if num_workers < 0:
      raise ValueError(
        f"{self.name}: `num_workers` must be at least 0, got {num_workers}."
      )
    self._num_workers = num_workers
    self._progress = progress
    self._pool: futures.Executor | None = None
    super().__init__(**{"file_format": "array_record", **kwargs})
    self.num_examples = self._check_counts(num_examples)

  def _check_counts(
    self, num_examples: Mapping[str, int] | None
  ) -> dict[str, int]:
    """How many examples of which splits are asked for."""
    parts = self._parts()
    if num_examples is None:
      return {split: part.size for split, part in parts.items()}
    unknown = set(num_examples) - set(parts)
    if unknown or not num_examples:
      raise ValueError(
        f"{self.name}: `num_examples` must name splits out of"
        f" {' '.join(parts)}, got {' '.join(sorted(unknown)) or 'none'}."
      )
    for split, count in num_examples.items():
      part = parts[split]
      limit = f"in 1..{part.size}" if part.is_whole else "at least 1"
      if count < 1 or (part.is_whole and count > part.size):
        raise ValueError(
          f"{self.name}: `num_examples` of {split} must be {limit}, got"
          f" {count}; leave a split out to do without it."
        )
    return dict(num_examples)

  def _parts(self) -> Mapping[str, Part]:
    """The splits."""
    raise NotImplementedError

  def _make_draw(self, split: str) -> Draw:
    """The generator, (seed, index) -> example; it is sent to the workers."""
    raise NotImplementedError

  def _features(self) -> dict[str, Any]:
    """TFDS's features of an example as `storage.encode_example` gives it."""
    raise NotImplementedError

  def _picture(self, *, channels: int = 3) -> Any:
    """A picture, or with one channel a map; frames lie below each other."""
    height, width = self.builder_config.size
    return tfds.features.Image(
      shape=(height * max(self.builder_config.num_frames, 1), width, channels),
      encoding_format="png",
    )

  def _info(self) -> tfds.core.DatasetInfo:
    parts = {name: part._asdict() for name, part in self._parts().items()}
    metadata: dict[str, Any] = {
      "generator": "vision_jax",
      "class_names": list(self.CLASS_NAMES),
      "parts": parts,
      **self.METADATA,
    }
    if self.builder_config.num_frames:
      metadata["num_frames"] = self.builder_config.num_frames
    return tfds.core.DatasetInfo(
      builder=self,
      description=" ".join((type(self).__doc__ or "").split()),
      features=tfds.features.FeaturesDict(self._features()),
      disable_shuffling=True,
      metadata=tfds.core.MetadataDict(metadata),
    )

  def download_and_prepare(self, **kwargs: Any) -> None:
    """Draws the set and writes it; a set that is there already is kept."""
    with contextlib.ExitStack() as stack:
      if self._num_workers:
        # Not forked: the process may run threads of JAX.
        self._pool = stack.enter_context(
          futures.ProcessPoolExecutor(
            self._num_workers,
            multiprocessing.get_context("spawn"),
            initializer=_start_worker,
          )
        )
      super().download_and_prepare(**kwargs)

  def _shard_iterators_per_split(
    self, dl_manager: tfds.download.DownloadManager
  ) -> Mapping[str, list[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]]:
    del dl_manager
    height, width = self.builder_config.size
    pixels = height * width * max(self.builder_config.num_frames, 1)
    at_once = max(_SHARD_BYTES // (3 * pixels), 1)
    bar = tqdm.tqdm(
      total=sum(self.num_examples.values()),
      desc=self.name,
      unit=" examples",
      disable=not self._progress,
    )
    return {
      split: [
        functools.partial(
          self._generate, bar, split, start, min(start + at_once, count)
        )
        for start in range(0, count, at_once)
      ]
      for split, count in self.num_examples.items()
    }

  def _generate(
    self, bar: tqdm.tqdm, split: str, start: int, stop: int
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    """Positions `start` to `stop` of a split and their examples."""
    part = self._parts()[split]
    draw = functools.partial(_draw_encoded, self._make_draw(split), part.seed)
    indices = range(part.first + start, part.first + stop)
    examples: Iterator[dict[str, Any]] = map(draw, indices)
    if self._pool is not None:
      chunk = max(1, min(16, len(indices) // (4 * self._num_workers)))
      examples = self._pool.map(draw, indices, chunksize=chunk)
    for position, example in enumerate(examples, start):
      yield position, storage.wrap_pictures(example)
      bar.update()
    if bar.n == bar.total:
      bar.close()
