"""`vision-jax convert`: weights of other frameworks to our own files."""

import dataclasses
import pathlib
from typing import Annotated, Literal

import tyro

from vision_jax.cli.options import CommonOptions
from vision_jax.cli.support import check_outputs

__all__ = ["ConvertOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertOptions(CommonOptions):
  """Convert weights to safetensors with metadata.

  Parameters are mapped by name; nothing may be missing and nothing left over.
  Neither torch nor trust in the file is needed.

  Attributes:
    name: Name of the network, for example vgg16.
    source: A .pth, .safetensors or .npz file, one of darknet (.weights) or
      Keras (.h5), or published weights such as IMAGENET1K_V1.
    out: File to write, ending in .safetensors.
    dtype: Type of the stored kernels.
    licence: Licence of the weights, kept in the file.
  """

  name: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
  source: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SOURCE")]]
  out: pathlib.Path
  dtype: Literal["float32", "float16"] = "float32"
  licence: str = ""

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    check_outputs(
      "--out", self.out, (".safetensors",), inputs=(pathlib.Path(self.source),)
    )
    import jax
    import numpy as np

    from vision_jax import weights

    module, variables, preprocess = weights.resolve(self.name, self.source)
    weights.save_weights(
      self.out,
      variables,
      metadata=weights.WeightsMetadata(
        self.name,
        {"num_classes": module.num_classes},
        source=self.source,
        preprocessing=preprocess,
        licence=self.licence,
      ),
      dtype=np.dtype(self.dtype),
    )
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    size = self.out.stat().st_size
    print(f"{self.name}: {count:,} parameters from {self.source}")
    print(f"written: {self.out} ({size / 1e6:.1f} MB)")
    return 0
