"""Tests of vision_jax.train.loggers."""

import dataclasses
import json
import pathlib

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax import train


@dataclasses.dataclass(frozen=True)
class Config:
  size: tuple[int, int] = (64, 48)
  rate: float = 0.1
  path: pathlib.Path = pathlib.Path("a/b")


class LoggersTest(chex.TestCase):
  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.folder = tmp_path

  def lines(self):
    text = (self.folder / "run" / "log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]

  def test_json_lines(self):
    logger = train.JsonLinesLogger(self.folder / "run" / "log.jsonl")
    logger.write(1, {"loss": 0.5, "count": 3})
    logger.write(2, {"loss": float("nan")})
    logger.close()
    logger.write(3, {"loss": np.float32(0.25)})
    logger.close()
    self.assertEqual(
      self.lines(),
      [
        {"step": 1, "loss": 0.5, "count": 3},
        {"step": 2, "loss": None},
        {"step": 3, "loss": 0.25},
      ],
    )

  def test_full_disk_names_the_file(self):
    logger = train.JsonLinesLogger("/dev/full")
    with self.assertRaisesRegex(
      OSError, "cannot write step 7 .No space left.*'/dev/full'"
    ):
      logger.write(7, {"loss": 0.5})

  def test_rewind_drops_later_and_broken_lines(self):
    path = self.folder / "run" / "log.jsonl"
    logger = train.JsonLinesLogger(path)
    logger.rewind(0)
    for step in (10, 20, 30):
      logger.write(step, {"loss": step})
    logger.close()
    with path.open("a") as file:
      file.write('{"step": 15, "lo')  # killed while writing
    logger = train.JsonLinesLogger(path)
    logger.rewind(20)
    logger.write(30, {"loss": -1})
    logger.close()
    self.assertEqual([x["loss"] for x in self.lines()], [10, 20, -1])

  def test_tensorboard_writes_scalars(self):
    logger = train.TensorBoardLogger(self.folder / "tb")
    logger.rewind(0)
    logger.write(10, {"loss": 0.5})
    logger.close()
    (events,) = (self.folder / "tb").iterdir()
    self.assertIn(b"loss", events.read_bytes())

  def test_result_file(self):
    timing = train.Timing(seconds_to_first_step=2.5, images=100, seconds=4.0)
    result = train.write_result(
      self.folder / "new" / "result.json",
      metrics={"accuracy": jnp.float32(0.5), "bad": float("inf")},
      steps=7,
      config=Config(),
      timing=timing,
      extra={"seeds": (0, 1)},
    )
    text = (self.folder / "new" / "result.json").read_text()
    self.assertEqual(json.loads(text), result)
    self.assertEqual(result["metrics"], {"accuracy": 0.5, "bad": None})
    self.assertEqual(result["steps"], 7)
    self.assertEqual(result["images_per_second"], 25.0)
    self.assertEqual(result["seconds_to_first_step"], 2.5)
    self.assertEqual(
      result["config"], {"size": [64, 48], "rate": 0.1, "path": "a/b"}
    )
    self.assertEqual(result["devices"]["count"], 8)
    self.assertEqual(result["devices"]["platform"], "cpu")
    self.assertIn("jax", result["versions"])
    self.assertIn("commit", result)
    self.assertEqual(result["seeds"], [0, 1])
