"""`vision-jax segment`: the class of every pixel."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vision_jax.cli.options import CommonOptions
from vision_jax.cli.support import (
  UserError,
  describe_error,
  fit_image,
  result_record,
  write_json,
)

if TYPE_CHECKING:
  import numpy as np

__all__ = ["SegmentOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentOptions(CommonOptions):
  """Find the class of every pixel, in one image or in many.

  Writes for each image NAME_overlay.png and NAME_labels.png (a byte a pixel,
  the class), and for all of them segments.json: one annotation for each class
  of each image, with its mask in COCO's run lengths.

  Attributes:
    images: Image files or folders.
    model: Network: pointrend_small (generated shapes), deeplabv3_resnet50,
      deeplabv3_resnet101, deeplabv3_mobilenet_v3_large, fcn_resnet50,
      fcn_resnet101, lraspp_mobilenet_v3_large, deeplabv3_r103,
      deeplabv3_plus_r103, semantic_fpn_..., pointrend_... Masks of single
      objects are found by `vision-jax detect`.
    weights: "bundled", "random", a file (.safetensors, .pth, .pkl, .npz), or
      the name of published weights such as DEFAULT (downloaded once).
    seed: Seed of random weights.
    short_side: Length that the shorter side is resized to for the network; 0 is
      that of the weights, -1 keeps every size.
    max_side: Larger images are shrunk first, so that their longer side has this
      many pixels; results have the size of the file. 0 keeps every size.
    out: Folder to write.
  """

  images: tyro.conf.Positional[
    Annotated[tuple[pathlib.Path, ...], tyro.conf.arg(metavar="IMAGE")]
  ]
  model: str = "pointrend_small"
  weights: str = "bundled"
  seed: int = 0
  short_side: int = 0
  max_side: int = 2048
  out: pathlib.Path = pathlib.Path("segments")

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    import sys

    import tqdm

    from vision_jax import data, weights

    files = self.files()
    module, variables, preprocess = weights.resolve(
      self.model, self.weights, seed=self.seed
    )
    names = self.class_names(module.num_classes)
    self.out.mkdir(parents=True, exist_ok=True)
    predict = self.program(module, variables, preprocess)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    failed = 0
    for file in tqdm.tqdm(
      files, desc="segment", unit="image", disable=len(files) == 1 or None
    ):
      try:
        image = data.read_image(file)
      except data.ImageError as error:
        tqdm.tqdm.write(
          f"vision-jax segment: error: {describe_error(error)[0]}",
          file=sys.stderr,
        )
        failed += 1
        continue
      labels = predict(image)
      self.write(file, image, labels, names)
      size = {"height": labels.shape[0], "width": labels.shape[1]}
      images.append({"id": len(images) + 1, "file_name": file.name, **size})
      annotations += _annotations(labels, len(images), len(annotations))
    content = {
      "images": images,
      "annotations": annotations,
      "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
    }
    record = result_record(self, {"failed": failed})
    write_json(self.out / "segments.json", {**content, "info": record})
    print(f"{len(images)} of {len(files)} written: {self.out}")
    return 1 if failed else 0

  def files(self) -> list[pathlib.Path]:
    """The images, after the options have been checked."""
    from vision_jax import data
    from vision_jax.systems import deeplab, pointrend, semantic_fpn

    known = {**deeplab.MODELS, **semantic_fpn.MODELS, **pointrend.MODELS}
    if self.model not in known:
      raise UserError(
        f"unknown model '{self.model}'; known: {', '.join(known)}"
      )
    if self.short_side < -1:
      raise UserError(
        f"--short-side must be at least -1, got {self.short_side}"
      )
    files: list[pathlib.Path] = []
    for path in self.images:
      files += data.list_images(path, recursive=True)
    if not files:
      raise UserError("no images given; name files or folders")
    if len({file.stem for file in files}) < len(files):
      raise UserError("two images have the same name; segment them one by one")
    if self.out.exists() and not self.out.is_dir():
      raise UserError(f"--out must be a folder, got the file '{self.out}'")
    return files

  def class_names(self, count: int) -> tuple[str, ...]:
    """Names of the classes, as far as the weights tell them."""
    from vision_jax import data, weights

    names: tuple[str, ...] = ()
    path = pathlib.Path(self.weights)
    if self.weights in weights.BUNDLED.get(self.model, {}):
      found = weights.load_bundled(self.model, weights=self.weights)
      names = found[2].class_names
    elif path.suffix == ".safetensors" and path.is_file():
      names = weights.load_model(path)[2].class_names
    elif self.model in weights.CATALOG:
      names = weights.find_entry(self.model).class_names
    elif self.model in weights.DETECTRON2_MODELS:
      names = tuple(data.CITYSCAPES_CLASSES)
    if len(names) != count:
      names = tuple(f"class {k}" for k in range(count))
    return names

  def program(
    self, module: Any, variables: Any, preprocess: Any
  ) -> "Callable[[np.ndarray], np.ndarray]":
    """Image of any size -> classes, uint8 [H, W]."""
    import functools

    import jax
    import jax.numpy as jnp
    import numpy as np

    from vision_jax import ops, weights

    short = {0: preprocess.resize, -1: None}.get(
      self.short_side, self.short_side
    )
    prepare = preprocess._replace(resize=short, crop=None)

    @functools.partial(jax.jit, static_argnums=2)
    def run(variables, image, size):
      prepared = weights.preprocess_image(image, prepare)
      logits = module.apply(variables, prepared[None])["out"]
      return ops.resize(logits[0], size).argmax(-1).astype(jnp.uint8)

    def predict(image: np.ndarray) -> np.ndarray:
      small = fit_image(image, self.max_side)
      return np.asarray(run(variables, small, image.shape[:2]))

    return predict

  def write(
    self,
    file: pathlib.Path,
    image: "np.ndarray",
    labels: "np.ndarray",
    names: tuple[str, ...],
  ) -> None:
    """The two pictures of one image; background is left untinted."""
    import numpy as np
    import PIL.Image

    from vision_jax import data, viz

    masks = np.arange(len(names)).reshape(-1, 1, 1) == labels
    tinted = [name.strip("_") != "background" for name in names]
    overlay = viz.draw_masks(image, masks, valid=np.array(tinted))
    data.write_image(self.out / f"{file.stem}_overlay.png", overlay)
    PIL.Image.fromarray(labels).save(self.out / f"{file.stem}_labels.png")


def _annotations(
  labels: "np.ndarray", image_id: int, count: int
) -> list[dict[str, Any]]:
  """One annotation for each class, `count` of them exist already."""
  import numpy as np

  from vision_jax import data

  found: list[dict[str, Any]] = []
  for k in np.unique(labels):
    mask = labels == k
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    left, top = columns[0], rows[0]
    box = left, top, columns[-1] + 1 - left, rows[-1] + 1 - top
    found.append(
      {
        "id": count + len(found) + 1,
        "image_id": image_id,
        "category_id": int(k),
        "segmentation": data.mask_to_rle(mask),
        "area": int(mask.sum()),
        "bbox": [int(v) for v in box],
        "iscrowd": 0,
      }
    )
  return found
