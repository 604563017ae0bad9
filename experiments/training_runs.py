"""What the training experiments share: options, loggers, sets, command line."""

import dataclasses
import pathlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

import tyro
from flax import traverse_util

from vision_jax import data, train
from vision_jax.train import distributed

__all__ = ["Run", "begin_from", "find_set", "make_loggers", "run_command"]


@dataclasses.dataclass(frozen=True)
class Run:
  """Where and how, whatever is trained.

  Attributes:
    workdir: receives checkpoints, logs, result.json and weights.safetensors.
    data_dir: folder of data sets.
    backend: pmap or shard_map.
    tiny: a few updates on a few pictures, to see that all works.
    progress: show a progress bar.
    tensorboard: write event files for TensorBoard.
  """

  workdir: str
  data_dir: str = "runs/data"
  backend: Literal["pmap", "shard_map"] = "pmap"
  tiny: bool = False
  progress: bool = True
  tensorboard: bool = False


def make_loggers(workdir: pathlib.Path, run: Run) -> list[Any]:
  """JSON lines, and TensorBoard if asked for."""
  loggers: list[Any] = [train.JsonLinesLogger(workdir / "metrics.jsonl")]
  if run.tensorboard:
    loggers.append(train.TensorBoardLogger(workdir / "tensorboard"))
  return loggers


# Where whole networks keep their backbones.
_BODIES = (("backbone", "body"), ("coarse", "backbone"))


def begin_from(variables: Any, found: Any) -> Any:
  """Takes over what a trained network shares with the one to be trained.

  That may be the same network, a relative with other heads, or the backbone
  alone. Leaves are shared that have the same path, from the backbone on, and
  the same shape.

  Args:
    variables: of the network to be trained.
    found: of the trained one.

  Returns:
    `variables` with the shared leaves of `found`.

  Raises:
    ValueError: if nothing is shared.
  """
  known, wanted = _leaves(found), _leaves(variables)
  shared = {
    name: known[name]
    for name, (_, leaf) in wanted.items()
    if name in known and known[name][1].shape == leaf.shape
  }
  if not shared:
    raise ValueError(
      "begin_from: `found` must share parameters with `variables`, got none; "
      "give weights of the same network, of a relative, or of its backbone."
    )
  result = {
    path: shared[name][1] if name in shared else leaf
    for name, (path, leaf) in wanted.items()
  }
  return traverse_util.unflatten_dict(result)


def _leaves(variables: Any) -> dict[tuple[str, ...], tuple[Any, Any]]:
  """Path from the backbone on -> (whole path, leaf)."""
  flat = traverse_util.flatten_dict(variables)
  bodies = {(kind, *body) for kind in variables for body in _BODIES}
  whole = any(path[:3] in bodies for path in flat)
  names = {}
  for path, leaf in flat.items():
    kind, *rest = path
    name = path
    if path[:3] in bodies or not whole:
      name = (kind, "body", *(rest[2:] if whole else rest))
    names[name] = (path, leaf)
  return names


def find_set(
  name: str,
  directory: str,
  *,
  variant: str | None,
  num_examples: dict[str, int] | None = None,
  tiny: bool = False,
  generated: bool = True,
) -> pathlib.Path:
  """The folder of a set; a generated one is drawn on first use.

  Args:
    name: of the set.
    directory: folder of data sets.
    variant: the builder's config, where the set is generated.
    num_examples: of each split of a tiny set.
    tiny: whether the tiny set is meant, in a folder of its own.
    generated: whether to draw what is missing.
  """
  folder = pathlib.Path(directory) / ("tiny" if tiny else "")
  if not generated:
    return folder / name

  def draw() -> str:
    path = data.prepare_generated(
      name,
      folder,
      config=variant,
      num_examples=num_examples if tiny else None,
    )
    return str(path)

  return pathlib.Path(distributed.on_first_process(draw))


def run_command(
  prog: str,
  description: str | None,
  configs: ModuleType,
  train_and_evaluate: Callable[[Any, Run], Any],
) -> None:
  """Command line: one subcommand for each file of a package of configs.

  Args:
    prog: how the command is called.
    description: of the command.
    configs: has CONFIGS, SUMMARIES and tiny.
    train_and_evaluate: what a subcommand does with its config.
  """

  def command(name: str, config: Any) -> Callable[..., None]:
    def run(
      run: tyro.conf.OmitArgPrefixes[Run],
      config: type(config) = config,  # type: ignore[valid-type]
    ) -> None:
      train_and_evaluate(configs.tiny(config) if run.tiny else config, run)

    run.__doc__ = configs.SUMMARIES[name]
    return run

  tyro.extras.subcommand_cli_from_dict(
    {name: command(name, config) for name, config in configs.CONFIGS.items()},
    prog=prog,
    description=description,
  )
