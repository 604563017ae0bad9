"""The generated sets as TFDS builders: drawn once, then read like any other.

Importing this module registers the builders with TFDS. They write ArrayRecord
and need no TensorFlow. `prepare_generated` is the short way to them, and
`read_prepared` reads what they wrote; the features are those of GENERATED.md,
"On disk".
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from vision_jax.data import photographs
from vision_jax.data.generated import (
  digit_glyphs,
  generated_shapes,
  instances,
  stick_figures,
  stick_pose,
  texture_classes,
  warped_photographs,
)
from vision_jax.data.generated_builder import (
  Draw,
  GeneratedBuilder,
  GeneratedConfig,
  Part,
)

__all__ = [
  "BUILDERS",
  "GeneratedDigits",
  "GeneratedInstances",
  "GeneratedShapes",
  "GeneratedTextures",
  "HomographyPairs",
  "StickPose",
]

# Of the labelled sets: seed 0 trains, seed 2 chooses settings, seed 1 tests.
_PARTS = {
  "train": Part(0, 0, 20_000),
  "validation": Part(2, 0, 2_000),
  "test": Part(1, 0, 5_000),
}


def _config(
  name: str, height: int, width: int, *, num_frames: int = 0
) -> GeneratedConfig:
  """A configuration that says its size."""
  return GeneratedConfig(
    name=name,
    size=(height, width),
    num_frames=num_frames,
    description=f"Pictures of {height} x {width} pixels.",
  )


def _squares(*sides: int) -> list[GeneratedConfig]:
  """One configuration for each side, named by it; the first is the default."""
  return [_config(str(side), side, side) for side in sides]


def _rows(*shape: int | None, dtype: Any = np.float32) -> Any:
  """One array row for each object; no other length is open."""
  return tfds.features.Tensor(shape=(None, *shape), dtype=dtype)


def _labels(names: Sequence[str]) -> Any:
  """One class for each object."""
  return tfds.features.Sequence(tfds.features.ClassLabel(names=names))


_POLYGONS = tfds.features.FeaturesDict(
  {
    "points": _rows(2),
    "lengths": _rows(dtype=np.int32),
    "counts": _rows(dtype=np.int32),
  }
)


def _draw_labelled(
  seed: int,
  index: int,
  *,
  generator: Callable[..., tuple[np.ndarray, int]],
  size: int,
) -> dict[str, Any]:
  """A picture of one class."""
  image, label = generator(seed, index, size=size)
  return {"image": image, "label": label}


class GeneratedTextures(GeneratedBuilder):
  """One object on clutter; its texture is its class.

  GENERATED.md, "Textures".
  """

  VERSION = tfds.core.Version(f"{texture_classes.TEXTURE_VERSION}.0.0")
  BUILDER_CONFIGS: ClassVar = _squares(64, 32, 128, 224)
  CLASS_NAMES = texture_classes.TEXTURE_NAMES

  def _parts(self) -> Mapping[str, Part]:
    return _PARTS

  def _make_draw(self, split: str) -> Draw:
    return functools.partial(
      _draw_labelled,
      generator=texture_classes.textures,
      size=self.builder_config.size[0],
    )

  def _features(self) -> dict[str, Any]:
    return {
      "image": self._picture(),
      "label": tfds.features.ClassLabel(names=self.CLASS_NAMES),
    }


class GeneratedDigits(GeneratedBuilder):
  """Digits of many faces and strokes, with the features of MNIST.

  GENERATED.md, "Digits".
  """

  VERSION = tfds.core.Version(f"{digit_glyphs.DIGITS_VERSION}.0.0")
  BUILDER_CONFIGS: ClassVar = _squares(28)
  CLASS_NAMES = tuple("0123456789")

  def _parts(self) -> Mapping[str, Part]:
    return {
      "train": Part(0, 0, 60_000),
      "validation": Part(2, 0, 5_000),
      "test": Part(1, 0, 10_000),
    }

  def _make_draw(self, split: str) -> Draw:
    return functools.partial(
      _draw_labelled,
      generator=digit_glyphs.digits,
      size=self.builder_config.size[0],
    )

  def _features(self) -> dict[str, Any]:
    return {
      "image": self._picture(channels=1),
      "label": tfds.features.ClassLabel(names=self.CLASS_NAMES),
    }


class GeneratedShapes(GeneratedBuilder):
  """One to eight textured shapes on clutter, with boxes and masks.

  GENERATED.md, "Shapes".
  """

  VERSION = tfds.core.Version(f"{generated_shapes.SHAPES_VERSION}.0.0")
  BUILDER_CONFIGS: ClassVar = _squares(128, 64, 256, 512)
  CLASS_NAMES = generated_shapes.SHAPE_NAMES

  def _parts(self) -> Mapping[str, Part]:
    return _PARTS

  def _make_draw(self, split: str) -> Draw:
    return functools.partial(
      generated_shapes.shapes, size=self.builder_config.size[0]
    )

  def _features(self) -> dict[str, Any]:
    return {
      "image": self._picture(),
      "boxes": _rows(4),
      "labels": _labels(self.CLASS_NAMES),
      "masks": tfds.features.Text(),
      "polygons": _POLYGONS,
      "area": _rows(),
      "crowd": _rows(dtype=np.bool_),
      "semantic": self._picture(channels=1),
    }


_PEOPLE: Mapping[str, Callable[..., dict[str, Any]]] = {
  "single": stick_pose.stick_pose_single,
  "multi": stick_pose.stick_pose_multi,
  "video": stick_pose.stick_pose_video,
}


class StickPose(GeneratedBuilder):
  """Stick figures with 15 joints: alone, in groups, in clips of 16 frames.

  In a clip every feature but `track_id` has a first axis of frames.
  GENERATED.md, "StickPose".
  """

  VERSION = tfds.core.Version(f"{stick_pose.STICK_POSE_VERSION}.0.0")
  BUILDER_CONFIGS: ClassVar = [
    _config("single_64", 64, 64),
    _config("single_128", 128, 128),
    _config("single_256", 256, 256),
    _config("multi_256", 256, 256),
    _config("video_256", 256, 256, num_frames=16),
  ]
  CLASS_NAMES = ("person",)
  METADATA: ClassVar = {
    "keypoint_names": list(stick_figures.STICK_JOINTS),
    "skeleton": [list(limb) for limb in stick_figures.STICK_LIMBS],
  }

  def _parts(self) -> Mapping[str, Part]:
    # The splits follow each other in one set: no further examples.
    return {
      {"val": "validation"}.get(split, split): Part(
        0, indices.start, len(indices), is_whole=True
      )
      for split, indices in stick_pose.STICK_POSE_SPLITS.items()
    }

  def _make_draw(self, split: str) -> Draw:
    config = self.builder_config
    draw = _PEOPLE[config.name.partition("_")[0]]
    options: dict[str, int] = {"size": config.size[0]}
    if config.num_frames:
      options["num_frames"] = config.num_frames
    return functools.partial(draw, **options)

  def _features(self) -> dict[str, Any]:
    frames = self.builder_config.num_frames

    def rows(*shape: int) -> Any:
      if not frames:
        return _rows(*shape)
      return tfds.features.Tensor(
        shape=(frames, None, *shape), dtype=np.float32
      )

    joints = len(stick_figures.STICK_JOINTS)
    return {
      "image": self._picture(),
      "keypoints": rows(joints, 3),
      "z": rows(joints),
      "boxes": rows(4),
      "area": rows(),
      "head_size": rows(),
      "ignore": self._picture(channels=1),
      "track_id": _rows(dtype=np.int32),
    }


@functools.lru_cache(maxsize=8)
def _instance_records(
  preset: str, kind: str, seed: int
) -> list[instances.InstanceRecord]:
  """The pictures of one kind, in their order."""
  records = instances.instance_set(
    seed=seed, **instances.INSTANCE_PRESETS[preset]
  )
  return [record for record in records if record.kind == kind]


def _draw_instance(
  seed: int, index: int, *, preset: str, kind: str
) -> dict[str, Any]:
  record = _instance_records(preset, kind, seed)[index]
  return instances.draw_instance_image(record)


class GeneratedInstances(GeneratedBuilder):
  """Instances to be found again: a database, distractors and queries.

  The label of an object is the number of its instance. The configurations
  for validation are of seed 1. GENERATED.md, "Instances".
  """

  VERSION = tfds.core.Version(f"{instances.INSTANCES_VERSION}.0.0")
  BUILDER_CONFIGS: ClassVar = [
    _config("full", 256, 256),
    _config("tiny", 160, 160),
    _config("full_validation", 256, 256),
    _config("tiny_validation", 160, 160),
  ]

  def _preset(self) -> str:
    return self.builder_config.name.removesuffix("_validation")

  def _parts(self) -> Mapping[str, Part]:
    seed = int(self.builder_config.name != self._preset())
    sizes = {
      kind: len(_instance_records(self._preset(), kind, seed))
      for kind in ("database", "distractor", "query")
    }
    return {
      kind: Part(seed, 0, size, is_whole=True) for kind, size in sizes.items()
    }

  def _make_draw(self, split: str) -> Draw:
    return functools.partial(_draw_instance, preset=self._preset(), kind=split)

  def _features(self) -> dict[str, Any]:
    return {
      "image": self._picture(),
      "boxes": _rows(4),
      "labels": _rows(dtype=np.int32),
      "masks": tfds.features.Text(),
      "visible": _rows(),
      "side": _rows(),
    }


def _draw_pair(
  seed: int, index: int, *, size: tuple[int, int]
) -> dict[str, Any]:
  names = photographs.EVALUATION
  number, place = divmod(index, len(names))
  pair = warped_photographs.homography_pair(
    names[place], number, seed=seed, size=size
  )
  return {
    # The pictures of a pair are in steps of 1 / 255: nothing is lost.
    "image0": np.rint(pair.image0 * 255).astype(np.uint8),
    "image1": np.rint(pair.image1 * 255).astype(np.uint8),
    "homography_0to1": pair.homography_0to1,
    "name": pair.name,
  }


class HomographyPairs(GeneratedBuilder):
  """Photographs under known homographies, with photometric change.

  Example i shows photograph i mod 7 under its homography i div 7: any number
  of examples is spread over the photographs. GENERATED.md, "Homography
  pairs".
  """

  VERSION = tfds.core.Version(
    f"{warped_photographs.HOMOGRAPHY_PAIRS_VERSION}.0.0"
  )
  BUILDER_CONFIGS: ClassVar = [
    _config("480x640", 480, 640),
    _config("240x320", 240, 320),
  ]

  def _parts(self) -> Mapping[str, Part]:
    return {"test": Part(0, 0, 70), "validation": Part(1, 0, 70)}

  def _make_draw(self, split: str) -> Draw:
    return functools.partial(_draw_pair, size=self.builder_config.size)

  def _features(self) -> dict[str, Any]:
    return {
      "image0": self._picture(),
      "image1": self._picture(),
      # As bytes: TFDS's lists of numbers have 32 bits.
      "homography_0to1": tfds.features.Tensor(
        shape=(3, 3), dtype=np.float64, encoding=tfds.features.Encoding.BYTES
      ),
      "name": tfds.features.Text(),
    }


BUILDERS: Mapping[str, type[GeneratedBuilder]] = {
  builder.name: builder
  for builder in (
    GeneratedShapes,
    GeneratedTextures,
    GeneratedDigits,
    StickPose,
    GeneratedInstances,
    HomographyPairs,
  )
}
"""The builders by the names of their sets."""
