"""Parameters: read from other frameworks, mapped by name, checked, saved."""

from vision_jax.weights.catalog import (
  BASE_URL,
  CATALOG,
  FOREIGN,
  VOC_CLASSES,
  Entry,
  ForeignEntry,
  find_entry,
)
from vision_jax.weights.convert import (
  state_dict_to_variables,
  torch_shapes,
  variables_to_state_dict,
)
from vision_jax.weights.darknet import (
  DarknetHeader,
  DarknetLayer,
  darknet_layers,
  from_darknet,
  read_darknet,
  read_darknet_header,
  write_darknet,
)
from vision_jax.weights.detectron2 import (
  DETECTRON2_MODELS,
  detectron2_names,
  detectron2_to_variables,
  from_detectron2,
)
from vision_jax.weights.errors import (
  WeightsError,
  WeightsMismatchError,
  WeightsNotFoundError,
)
from vision_jax.weights.keras import from_keras, read_keras
from vision_jax.weights.names import current_name, strip_wrappers
from vision_jax.weights.preprocess import (
  Preprocess,
  normalize,
  preprocess_image,
)
from vision_jax.weights.published import cache_dir, from_torchvision
from vision_jax.weights.random import (
  random_array,
  random_state_dict,
  random_variables,
)
from vision_jax.weights.readers import read_metadata, read_state_dict
from vision_jax.weights.select import (
  BUNDLED,
  load_bundled,
  load_model,
  preprocessing,
  resolve,
)
from vision_jax.weights.store import (
  WeightsMetadata,
  load_weights,
  save_weights,
)

__all__ = [
  "BASE_URL",
  "BUNDLED",
  "CATALOG",
  "DETECTRON2_MODELS",
  "FOREIGN",
  "VOC_CLASSES",
  "DarknetHeader",
  "DarknetLayer",
  "Entry",
  "ForeignEntry",
  "Preprocess",
  "WeightsError",
  "WeightsMetadata",
  "WeightsMismatchError",
  "WeightsNotFoundError",
  "cache_dir",
  "current_name",
  "darknet_layers",
  "detectron2_names",
  "detectron2_to_variables",
  "find_entry",
  "from_darknet",
  "from_detectron2",
  "from_keras",
  "from_torchvision",
  "load_bundled",
  "load_model",
  "load_weights",
  "normalize",
  "preprocess_image",
  "preprocessing",
  "random_array",
  "random_state_dict",
  "random_variables",
  "read_darknet",
  "read_darknet_header",
  "read_keras",
  "read_metadata",
  "read_state_dict",
  "resolve",
  "save_weights",
  "state_dict_to_variables",
  "strip_wrappers",
  "torch_shapes",
  "variables_to_state_dict",
  "write_darknet",
]
