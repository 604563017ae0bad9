"""Options that several commands share, as frozen dataclasses."""

import dataclasses
from typing import Literal

__all__ = ["CommonOptions", "FeatureOptions", "NetworkOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonOptions:
  """What every command understands.

  Attributes:
    debug: Show the Python traceback of an error.
  """

  debug: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions(CommonOptions):
  """Which network is used, and on images of what size.

  Attributes:
    model: Network: vgg_small and resnet_small are bundled; also alexnet, vgg11
      to vgg19 (and with _bn), resnet18 to resnet152, resnext..., wide_resnet...
    weights: "bundled" (of resnet_small also "textures" and "instances"),
      "random", a file (.safetensors, .pth, .npz), or the name of published
      weights such as IMAGENET1K_V1 (downloaded once).
    seed: Seed of random weights.
    max_side: Larger images are shrunk so that their longer side has this many
      pixels; results are in pixels of the file. 0 keeps every size.
  """

  model: str = "vgg_small"
  weights: str = "bundled"
  seed: int = 0
  max_side: int = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureOptions(NetworkOptions):
  """How key points are found and described.

  Attributes:
    method: ELF uses the network; the others are OpenCV's and do not.
    max_keypoints: At most so many key points per image, the strongest.
    saliency_layer: Layer whose saliency is the detector of ELF; by default the
      model's.
    descriptor_layers: Layers whose features describe the points; by default the
      model's.
    quantize: Round ELF's maps to 8 bits, as its authors' code does.
  """

  method: Literal["elf", "sift", "orb", "akaze"] = "elf"
  max_keypoints: int = 500
  saliency_layer: str | None = None
  descriptor_layers: tuple[str, ...] = ()
  quantize: bool = False
