"""Training: state, data-parallel step, evaluation, checkpoints, loop, loggers.

Nothing here knows a model or a data set; it all comes in as functions.
"""

from vision_jax.train.checkpoint import CheckpointError, Checkpoints, Restored
from vision_jax.train.distributed import start_processes
from vision_jax.train.evaluation import evaluate, make_eval_step, pad_batch
from vision_jax.train.loggers import (
  JsonLinesLogger,
  Logger,
  TensorBoardLogger,
  write_result,
)
from vision_jax.train.loop import NonFiniteError, Timing, fit
from vision_jax.train.optimizers import (
  decay_mask,
  make_optimizer,
  make_schedule,
  scale_by_path,
)
from vision_jax.train.precision import compute_dtype
from vision_jax.train.state import TrainState, create_state, ema_state
from vision_jax.train.step import example_keys, make_step
from vision_jax.train.stopping import Preempted

__all__ = [
  "CheckpointError",
  "Checkpoints",
  "JsonLinesLogger",
  "Logger",
  "NonFiniteError",
  "Preempted",
  "Restored",
  "TensorBoardLogger",
  "Timing",
  "TrainState",
  "compute_dtype",
  "create_state",
  "decay_mask",
  "ema_state",
  "evaluate",
  "example_keys",
  "fit",
  "make_eval_step",
  "make_optimizer",
  "make_schedule",
  "make_step",
  "pad_batch",
  "scale_by_path",
  "start_processes",
  "write_result",
]
