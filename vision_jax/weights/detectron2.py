"""Files of detectron2: names, layout, old spellings, order of the classes.

A name is turned into ours by rules on its parts; what they give is checked
against the network as everywhere, so that nothing is missing or left over.

==========================================  ==================================
detectron2                                  here
==========================================  ==================================
``backbone.bottom_up.res2.0.conv1.norm``    ``backbone.body.layer1.0.bn1``
``backbone.bottom_up.stem.conv1``           ``backbone.body.conv1``
``backbone.fpn_lateral2``, ``fpn_output2``  ``backbone.fpn.inner_blocks.0.0``,
                                            ``layer_blocks.0.0``
``sem_seg_head.*`` (weight; norm)           ``classifier.*`` (0.weight; 1)
``sem_seg_head.point_head.*``               ``point_head.*``
``proposal_generator.rpn_head.conv``        ``rpn.head.conv.0.0``
``roi_heads.box_head.fc1``                  ``roi_heads.box_head.fc6``
``roi_heads.mask_head.mask_fcn1``           ``roi_heads.mask_head.0.0``
``roi_heads.mask_head.predictor``           ``roi_heads.mask_predictor``
                                            ``.mask_fcn_logits``
``roi_heads.mask_coarse_head.*`` (old)      ``roi_heads.mask_head.coarse_head``
``roi_heads.mask_point_head.*`` (old)       ``roi_heads.mask_head.point_head``
==========================================  ==================================

A detector of detectron2 has the background as its last class, and neither a
box nor a mask for it; here it is class 0, as in torchvision, with zeros.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vision_jax.systems import deeplab, pointrend, rcnn, semantic_fpn
from vision_jax.weights import convert
from vision_jax.weights.errors import WeightsError
from vision_jax.weights.readers import read_state_dict

__all__ = [
  "DETECTRON2_MODELS",
  "detectron2_names",
  "detectron2_to_variables",
  "from_detectron2",
]

# Networks of which there are no other files.
DETECTRON2_MODELS = (
  "deeplabv3_plus_r103",
  "deeplabv3_r103",
  "detectron2_maskrcnn_r101_fpn",
  "detectron2_maskrcnn_r50_fpn",
  "detectron2_maskrcnn_x101_fpn",
  "pointrend_rcnn_r101_fpn",
  "pointrend_rcnn_r50_fpn",
  "pointrend_rcnn_x101_fpn",
  "pointrend_semantic_fpn_resnet50",
  "pointrend_semantic_fpn_resnet101",
  "semantic_fpn_resnet50",
  "semantic_fpn_resnet101",
)

_MODELS = {
  **semantic_fpn.MODELS,
  **pointrend.MODELS,
  **deeplab.MODELS,
  **{k: v for k, v in rcnn.MODELS.items() if k in DETECTRON2_MODELS},
}

# Entries of a file that are settings, not parameters.
_SETTINGS = re.compile(r"^pixel_(mean|std)$|\banchor_generator\.")
# What a detector has for each of its classes.
_CLASSES = "roi_heads.box_predictor.cls_score."
_BOXES = "roi_heads.box_predictor.bbox_pred."
_MASKS = "roi_heads.mask_predictor.mask_fcn_logits."

# Old spelling -> the one of today's detectron2.
_OLD = (
  (r"\bcoarse_mask_fc(\d)", r"fc\1"),
  (r"^roi_heads\.mask_coarse_head\.", "roi_heads.mask_head.coarse_head."),
  (r"^roi_heads\.mask_point_head\.", "roi_heads.mask_head.point_head."),
)

# Applied one after the other.
_RULES: tuple[tuple[str, Any], ...] = (
  *_OLD,
  (r"^backbone\.bottom_up\.", "backbone.body."),
  (
    r"^backbone\.fpn_(lateral|output)(\d)\.",
    lambda m: (
      f"backbone.fpn.{'inner' if m[1] == 'lateral' else 'layer'}_blocks."
      f"{int(m[2]) - 2}.0."
    ),
  ),
  (r"\bstem\.conv(\d)\.norm\.", r"bn\1."),
  (r"\bstem\.conv(\d)\.", r"conv\1."),
  # "decoder.res2" has no number behind it: it is no stage of a ResNet.
  (r"\bres([2-5])\.(\d+)\.", lambda m: f"layer{int(m[1]) - 1}.{m[2]}."),
  (r"(layer\d\.\d+)\.conv(\d)\.norm\.", r"\1.bn\2."),
  (r"(layer\d\.\d+)\.shortcut\.norm\.", r"\1.downsample.1."),
  (r"(layer\d\.\d+)\.shortcut\.", r"\1.downsample.0."),
  (r"^proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
  (r"^proposal_generator\.rpn_head\.objectness_logits", "rpn.head.cls_logits"),
  (r"^proposal_generator\.rpn_head\.anchor_deltas", "rpn.head.bbox_pred"),
  (
    r"^roi_heads\.box_head\.fc(\d)\.",
    lambda m: f"roi_heads.box_head.fc{int(m[1]) + 5}.",
  ),
  (
    r"^roi_heads\.mask_head\.mask_fcn(\d)\.",
    lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0.",
  ),
  (
    r"^roi_heads\.mask_head\.deconv\.",
    "roi_heads.mask_predictor.conv5_mask.",
  ),
  (r"^roi_heads\.mask_head\.predictor\.", _MASKS),
  (r"^sem_seg_head\.point_head\.", "point_head."),
  (r"^sem_seg_head\.coarse_sem_seg_head\.", "classifier."),
  (r"^sem_seg_head\.", "classifier."),
)


def detectron2_names(names: Any) -> dict[str, str]:
  """Our names of the parameters of a file of detectron2.

  Args:
    names: all names of the file, of today's or the older spelling.

  Returns:
    name of the file -> our name.

  Example:
    >>> from vision_jax import weights
    >>> names = weights.detectron2_names(
    ...   ["backbone.bottom_up.res3.0.shortcut.norm.weight",
    ...    "sem_seg_head.p3.0.weight", "sem_seg_head.p3.0.norm.bias",
    ...    "roi_heads.mask_point_head.fc1.weight"])
    >>> for name in names.values():
    ...   print(name)
    backbone.body.layer2.0.downsample.1.weight
    classifier.p3.0.0.weight
    classifier.p3.0.1.bias
    roi_heads.mask_head.point_head.fc1.weight

  Source:
    The modules of detectron2 and its projects DeepLab and PointRend.
  """
  found = {}
  for name in names:
    new = name
    for pattern, replacement in _RULES:
      new = re.sub(pattern, replacement, new, count=1)
    found[name] = new
  normed = {
    new.rpartition(".norm.")[0] for new in found.values() if ".norm." in new
  }
  return {old: _numbered(new, normed) for old, new in found.items()}


def _numbered(name: str, normed: set[str]) -> str:
  """A convolution with a norm is "0" and "1" of a sequence here."""
  if ".norm." in name:
    return name.replace(".norm.", ".1.")
  parent, _, leaf = name.rpartition(".")
  return f"{parent}.0.{leaf}" if parent in normed else name


def detectron2_to_variables(
  module: nn.Module, state_dict: Mapping[str, Any], *, dtype: Any = jnp.float32
) -> dict[str, Any]:
  """Gives the arrays of a file of detectron2 to a network.

  Args:
    module: a `deeplab.Segmenter`, `semantic_fpn.SemanticFPN`,
      `pointrend.PointRend` or `rcnn.RCNN`.
    state_dict: name -> array as in the file. Norms without statistics get mean
      0 and variance 1 - 1e-5, as detectron2 reads them.
    dtype: floating type of the parameters; batch statistics stay float32.

  Returns:
    Variables {"params": ..., "batch_stats": ...}.

  Raises:
    WeightsMismatchError: if names or shapes differ.
    WeightsError: if two names stand for one, or a value is not finite.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import semantic_fpn
    >>> module = semantic_fpn.semantic_fpn_resnet50(3)
    >>> try:
    ...   weights.detectron2_to_variables(module, {"x": np.zeros(3)})
    ... except weights.WeightsMismatchError as error:
    ...   print("missing" in str(error))
    True

  Source:
    detectron2, layers/batch_norm.py (FrozenBatchNorm2d) and point_head.py.
  """
  where = "detectron2_to_variables"
  names = detectron2_names(
    n
    for n in state_dict
    if not n.endswith("num_batches_tracked") and not _SETTINGS.search(n)
  )
  prefix = "coarse." if isinstance(module, pointrend.PointRend) else ""
  state: dict[str, np.ndarray] = {}
  for old, new in names.items():
    array = np.asarray(state_dict[old])
    if "point_head." in new and new.endswith(".weight") and array.ndim == 3:
      array = array[..., 0]  # a convolution over points
    if not new.startswith("point_head."):
      new = prefix + new
    if new in state:
      raise WeightsError(f"{where}: two names stand for {new!r}.")
    if isinstance(module, rcnn.RCNN):
      array = _background_first(new, array)
    state[new] = array
  target = convert.target_tree(module)
  for name, shape in convert.target_shapes(target).items():
    parent, _, leaf = name.rpartition(".")
    if name in state or f"{parent}.weight" not in state:
      continue
    if leaf == "running_mean":
      state[name] = np.zeros(shape, np.float32)
    elif leaf == "running_var":
      state[name] = np.full(shape, 1 - 1e-5, np.float32)
  return convert.to_variables(
    module, state, where=where, dtype=dtype, target=target
  )


def _background_first(name: str, array: np.ndarray) -> np.ndarray:
  """Rows of a detector's classes with the background before them."""
  if name.startswith(_CLASSES):
    return np.roll(array, 1, 0)
  for start, rows in ((_BOXES, 4), (_MASKS, 1)):
    if name.startswith(start):
      return np.pad(array, [(rows, 0)] + [(0, 0)] * (array.ndim - 1))
  return array


def from_detectron2(
  name: str,
  source: str | os.PathLike[str] | Mapping[str, Any],
  *,
  num_classes: int | None = None,
  dtype: Any = jnp.float32,
  **arguments: Any,
) -> tuple[nn.Module, dict[str, Any]]:
  """Makes a segmentation network or a detector with weights of detectron2.

  Args:
    name: "pointrend_semantic_fpn_resnet101", "semantic_fpn_resnet50",
      "deeplabv3_r103", "deeplabv3_plus_r103",
      "detectron2_maskrcnn_r50_fpn" or one of their kin.
    source: a ``.pkl`` or ``.pth`` file, or a mapping name -> array.
    num_classes: length of the scores, of a detector with the background; by
      default that of the weights.
    dtype: floating type of the parameters; batch statistics stay float32.
    **arguments: further arguments of the constructor.

  Returns:
    (module, variables).

  Raises:
    WeightsNotFoundError: if `source` is a path and there is no such file.
    WeightsMismatchError: if the weights belong to another model.
    WeightsError: if the model is unknown or the file is broken.

  Example:
    >>> from vision_jax import weights
    >>> weights.from_detectron2("pointrend_semantic_fpn_resnet101", "no.pkl")
    Traceback (most recent call last):
    vision_jax.weights.errors.WeightsNotFoundError: no.pkl: there is no such...

  Source:
    The files of detectron2's model zoo and of its projects.
  """
  if name not in _MODELS:
    raise WeightsError(
      f"from_detectron2: `name` must be one of {', '.join(_MODELS)}, got "
      f"{name!r}."
    )
  state = source if isinstance(source, Mapping) else read_state_dict(source)
  if num_classes is None:
    ends = (
      "sem_seg_head.predictor.bias",
      "coarse_sem_seg_head.predictor.bias",
      "box_predictor.cls_score.bias",
    )
    for key, array in state.items():
      if key.endswith(ends):
        num_classes = len(np.asarray(array))
  module = _MODELS[name](num_classes, **arguments)
  return module, detectron2_to_variables(module, state, dtype=dtype)
