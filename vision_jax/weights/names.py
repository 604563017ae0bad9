"""Old spellings of parameter names, and the ones used today.

The published files keep the names of the release that wrote them; torchvision
renames them while it loads. The rules below do the same for a file that is
read without torchvision.
"""

import re
from collections.abc import Callable, Iterable

from vision_jax.weights.errors import WeightsError

__all__ = ["current_name", "strip_wrappers"]

_LEAF = r"(weight|bias|running_mean|running_var|num_batches_tracked)$"

# Tried in this order; the first that matches is applied, once.
_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]
_RULES = (
  # AlexNet and VGG trained with DataParallel around the features only.
  (re.compile(r"^features\.module\."), "features."),
  # DenseNet: denselayer1.norm.1.weight -> denselayer1.norm1.weight.
  (
    re.compile(rf"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.{_LEAF}"),
    r"\1\2.\3",
  ),
  # Detection: one convolution has become a sequence of blocks.
  (re.compile(r"\brpn\.head\.conv\.(weight|bias)$"), r"rpn.head.conv.0.0.\1"),
  (
    re.compile(r"\bfpn\.(inner|layer)_blocks\.(\d+)\.(weight|bias)$"),
    r"fpn.\1_blocks.\2.0.\3",
  ),
  (
    re.compile(r"\bmask_head\.mask_fcn([1-9]\d*)\.(weight|bias)$"),
    lambda match: f"mask_head.{int(match[1]) - 1}.0.{match[2]}",
  ),
  # Vision transformer: the two named layers have become a sequence.
  (re.compile(r"\bmlp\.linear_1\.(weight|bias)$"), r"mlp.0.\1"),
  (re.compile(r"\bmlp\.linear_2\.(weight|bias)$"), r"mlp.3.\1"),
)

# Put before every name by wrappers around a model.
_WRAPPERS = ("module.", "_orig_mod.")


def current_name(name: str) -> str:
  """Today's spelling of a parameter name of torchvision.

  Args:
    name: name of a parameter in a state dict, old or new spelling.

  Returns:
    The name that the model has in torchvision 0.28; unknown names as given.

  Example:
    >>> from vision_jax import weights
    >>> weights.current_name("features.denseblock1.denselayer1.norm.1.weight")
    'features.denseblock1.denselayer1.norm1.weight'
    >>> weights.current_name("layer1.0.conv1.weight")
    'layer1.0.conv1.weight'

  Source:
    The names in the published files and in torchvision's modules.
  """
  for pattern, replacement in _RULES:
    renamed, count = pattern.subn(replacement, name, count=1)
    if count:
      return renamed
  return name


def strip_wrappers(names: Iterable[str]) -> dict[str, str]:
  """Maps names to names without the prefix that a wrapper put before all.

  Args:
    names: all the names of one state dict.

  Returns:
    name -> name without "module." (DataParallel) and "_orig_mod." (compiled
    modules); a prefix is only removed when every name has it.

  Example:
    >>> from vision_jax import weights
    >>> weights.strip_wrappers(["module.fc.weight", "module.fc.bias"])
    {'module.fc.weight': 'fc.weight', 'module.fc.bias': 'fc.bias'}

  Source:
    The prefixes of torch.nn.DataParallel and torch.compile.
  """
  stripped = {name: name for name in names}
  found = bool(stripped)
  while found:
    found = False
    for prefix in _WRAPPERS:
      if all(name.startswith(prefix) for name in stripped.values()):
        stripped = {k: v[len(prefix) :] for k, v in stripped.items()}
        found = True
  return stripped


def current_names(names: Iterable[str], *, where: str) -> dict[str, str]:
  """Maps today's spelling to the spelling given, for a whole state dict."""
  given: dict[str, str] = {}
  for name in names:
    new = current_name(name)
    if new in given:
      raise WeightsError(
        f"{where}: {given[new]!r} and {name!r} both stand for {new!r}; "
        "remove one of them."
      )
    given[new] = name
  return given
