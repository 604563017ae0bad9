"""What the training experiments share: options, loggers, sets, command line."""

import dataclasses
import json
import pathlib
import shlex
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Literal, NamedTuple

import jax
import tyro
from flax import traverse_util

from vision_jax import data, train, weights
from vision_jax.cli.parsing import parse_options
from vision_jax.train import distributed
from vision_jax.weights import constructors

__all__ = [
  "Result",
  "Run",
  "begin_from",
  "command_of",
  "export",
  "find_set",
  "load_variables",
  "run_command",
  "run_training",
]


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


class Result(NamedTuple):
  """What a run came to.

  Attributes:
    state: at the end; its moving average where one was kept.
    metrics: of the evaluation, and the minutes of training.
    steps: updates done.
  """

  state: train.TrainState
  metrics: dict[str, float]
  steps: int


def run_training(
  config: Any,
  run: Run,
  *,
  variables: Any,
  tx: Any,
  loss_fn: Any,
  batches: Any,
  evaluate: Callable[[train.TrainState], dict[str, float]],
  num_steps: int,
  accumulate: int = 1,
  ema_decay: float | None = None,
  eval_every: int | None = None,
  best: str | None = None,
) -> Result:
  """Trains to the end, evaluates, writes result.json.

  Args:
    config: settings of the experiment, with `seed`, `checkpoint_every` and
      `log_every`; written to config.json.
    run: where and how.
    variables: to begin with.
    tx: transformation of the gradients.
    loss_fn: as `train.make_step` has it.
    batches: endless, on the host.
    evaluate: numbers of a state; each state is evaluated once.
    num_steps: updates.
    accumulate: as `train.make_step` has it.
    ema_decay: of the moving average, which is what is evaluated.
    eval_every: updates between evaluations; None is at the end alone.
    best: number of the evaluation whose best checkpoint is kept.

  Returns:
    State, numbers, updates.
  """
  workdir = pathlib.Path(run.workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  settings = dataclasses.asdict(config)
  first = jax.process_index() == 0
  if first:
    (workdir / "config.json").write_text(json.dumps(settings, indent=1))
    print(
      f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax "
      f"{jax.__version__}, {config.model} on {config.data.name}"
    )
  ema = ema_decay is not None
  state = train.create_state(
    variables["params"],
    variables.get("batch_stats"),
    tx,
    jax.random.key(config.seed),
    ema=ema,
  )
  step = train.make_step(
    loss_fn,
    tx,
    backend=run.backend,
    accumulate=accumulate,
    ema_decay=ema_decay,
  )
  evaluated: dict[int, dict[str, float]] = {}  # updates -> numbers

  def evaluate_once(state: train.TrainState) -> dict[str, float]:
    number = int(state.step)
    if number not in evaluated:
      begun = time.perf_counter()
      evaluated[number] = evaluate(train.ema_state(state) if ema else state)
      waited.append(time.perf_counter() - begun)
    return evaluated[number]

  waited: list[float] = []
  timing, started = train.Timing(), time.perf_counter()
  with train.Checkpoints(
    workdir.resolve() / "checkpoints", best=best
  ) as checkpoints:
    state = train.fit(
      step,
      state,
      data.prefetch_to_device(batches, step.put),
      num_steps=num_steps,
      checkpoints=checkpoints,
      checkpoint_every=config.checkpoint_every,
      eval_fn=evaluate_once,
      eval_every=eval_every or num_steps,
      logger=make_loggers(workdir, run),
      log_every=config.log_every,
      progress=run.progress,
      timing=timing,
    )
  minutes = (time.perf_counter() - started - sum(waited)) / 60
  # By `fit`, unless the run was finished before.
  metrics = evaluate_once(state) | {"minutes": minutes}
  steps = int(state.step)
  if first:
    train.write_result(
      workdir / "result.json",
      metrics=metrics,
      steps=steps,
      timing=timing,
      config=settings,
    )
    print(json.dumps(metrics, indent=1))
  return Result(train.ema_state(state) if ema else state, metrics, steps)


def command_of(program: str, configs: ModuleType, config: Any) -> str:
  """The command that makes a run: the nearest config and what differs."""
  wanted = _settings(config)
  name, base = min(
    ((name, _settings(other)) for name, other in configs.CONFIGS.items()),
    key=lambda pair: sum(wanted[k] != v for k, v in pair[1].items()),
  )
  words = ["python", "-m", program, name]
  for key, value in wanted.items():
    if key == "seed" or value != base[key]:
      several = isinstance(value, tuple | list)
      values = value if several else (value,)
      words += [f"--config.{key}", *map(str, values)]
  return shlex.join(words)


def _settings(config: Any, prefix: str = "") -> dict[str, Any]:
  """Path of a field -> its value."""
  found: dict[str, Any] = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if dataclasses.is_dataclass(value):
      found |= _settings(value, f"{prefix}{field.name}.")
    else:
      found[prefix + field.name] = value
  return found


def make_loggers(workdir: pathlib.Path, run: Run) -> list[Any]:
  """JSON lines, and TensorBoard if asked for."""
  loggers: list[Any] = [train.JsonLinesLogger(workdir / "metrics.jsonl")]
  if run.tensorboard:
    loggers.append(train.TensorBoardLogger(workdir / "tensorboard"))
  return loggers


def export(
  config: Any,
  run: Run,
  result: Result,
  *,
  program: str,
  configs: ModuleType,
  data_words: str,
  test: str,
  **facts: Any,
) -> None:
  """Writes weights.safetensors in float16 with its card, on one process.

  Args:
    config: of the run.
    run: where.
    result: what it came to.
    program: module that was run.
    configs: its settings by name, for the command.
    data_words: what they were trained on.
    test: what the numbers of the card are of.
    **facts: further fields of `weights.WeightsMetadata`.
  """
  if jax.process_index():
    return
  metrics = dict(result.metrics)
  minutes = metrics.pop("minutes")
  numbers = ", ".join(f"{k} {v:.4g}" for k, v in sorted(metrics.items()))
  command = command_of(program, configs, config)
  card = (
    f"Data: {data_words}. Command: {command}. {result.steps} updates of "
    f"{config.batch_size}, {minutes:.1f} minutes on {jax.device_count()} x "
    f"{jax.devices()[0].device_kind}. On {test}: {numbers}."
  )
  state = result.state
  weights.save_weights(
    pathlib.Path(run.workdir) / "weights.safetensors",
    jax.device_get({"params": state.params, "batch_stats": state.batch_stats}),
    metadata=weights.WeightsMetadata(
      model=config.model,
      source=command,
      licence="Apache-2.0",
      card=card,
      **facts,
    ),
    dtype="float16",
  )


# Where whole networks keep their backbones.
_BODIES = (("backbone", "body"), ("coarse", "backbone"))


def load_variables(model: str, source: str) -> Any:
  """Variables to begin with.

  Args:
    model: the network to be trained.
    source: weights of it, as `weights.resolve` takes them; a file of this
      library or the name of a bundled network, whatever they hold; or
      "MODEL/WEIGHTS", a backbone or a whole network and its published weights
      or a file of them: "resnet50/IMAGENET1K_V2", "deeplabv3_resnet50/x.pth".
  """
  name, _, kind = source.partition("/")
  path = pathlib.Path(source)
  known = name in weights.BUNDLED or constructors.find_constructor(name)
  if kind and known and not path.exists():
    return weights.resolve(name, kind)[1]
  if source in weights.BUNDLED or path.suffix == ".safetensors":
    return weights.load_model(source)[1]
  return weights.resolve(model, source)[1]


def begin_from(variables: Any, found: Any, *, whole: bool = False) -> Any:
  """Takes over what a trained network shares with the one to be trained.

  That may be the same network, a relative with other heads, or the backbone
  alone. Leaves are shared that have the same path, from the backbone on, and
  the same shape.

  Args:
    variables: of the network to be trained.
    found: of the trained one; also the coarse network alone of one that has a
      head of points as well.
    whole: everything must be shared.

  Returns:
    `variables` with the shared leaves of `found`; says what it took.

  Raises:
    ValueError: if nothing is shared, or not all that must be.
  """
  if _is_coarse_part(found, variables):
    found = {kind: {"coarse": tree} for kind, tree in found.items()}
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
  left = [".".join(wanted[name][0]) for name in wanted if name not in shared]
  if left and whole:
    raise ValueError(
      "begin_from: `found` must have all of `variables`, got none that fits "
      f"{', '.join(left[:3])} and others; train with its number of classes."
    )
  if jax.process_index() == 0:
    random = f"; random: {', '.join(left[:6])}" if left else ""
    random += " ..." if len(left) > 6 else ""
    print(f"begins from {len(shared)} of {len(wanted)} arrays{random}")
  result = {
    path: shared[name][1] if name in shared else leaf
    for name, (path, leaf) in wanted.items()
  }
  return traverse_util.unflatten_dict(result)


def _is_coarse_part(found: Any, variables: Any) -> bool:
  """Whether one is a whole segmentation network, the other is built on one."""
  given, wanted = found["params"], variables["params"]
  return "coarse" in wanted and {"backbone", "classifier"} <= set(given)


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
    tiny: whether the tiny set is meant, in a folder of its own; sets that are
      not generated have none, and are where they always are.
    generated: whether to draw what is missing.
  """
  if not generated:
    return pathlib.Path(directory) / name
  folder = pathlib.Path(directory) / ("tiny" if tiny else "")

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
  args: Sequence[str] | None = None,
) -> Any:
  """Command line: one subcommand for each file of a package of configs.

  Args:
    prog: how the command is called.
    description: of the command.
    configs: has CONFIGS, SUMMARIES and tiny.
    train_and_evaluate: what a subcommand does with its config.
    args: words of the command line; those of the process if None.

  Returns:
    What `train_and_evaluate` returns.
  """

  def command(name: str, config: Any) -> Callable[..., Callable[[], Any]]:
    def choose(
      run: tyro.conf.OmitArgPrefixes[Run],
      config: type(config) = config,  # type: ignore[valid-type]
    ) -> Callable[[], Any]:
      chosen = configs.tiny(config) if run.tiny else config
      return lambda: train_and_evaluate(chosen, run)

    choose.__doc__ = configs.SUMMARIES[name]
    return choose

  def parse(words: Sequence[str]) -> Callable[[], Any]:
    return tyro.extras.subcommand_cli_from_dict(
      {name: command(name, config) for name, config in configs.CONFIGS.items()},
      prog=prog,
      description=description,
      args=words,
    )

  return parse_options(parse, args)()
