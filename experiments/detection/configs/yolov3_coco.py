"""YOLOv3 on COCO 2017, as cfg/yolov3.cfg of darknet trains it.

Run:     python -m experiments.detection.train yolov3_coco \
             --workdir runs/yolov3 --data-dir DIRECTORY_WITH_coco \
             --config.weights darknet53.conv.74
Expect:  no run here: the set is not part of this repository
Tiny:    add --tiny (a few updates)

Darknet draws the size anew every 10 batches, 320 to 608; here it stays.
"""

from experiments.detection.config import Config, Data, Optimizer, Yolo


def get_config() -> Config:
  """SGD 1e-3, a tenth after 400,000 and 450,000 of 500,200 updates of 64."""
  return Config(
    model="yolov3",
    data=Data(
      name="coco",
      train="train2017",
      test="val2017",
      size=(416, 416),
      augment="jitter",
      max_objects=90,
      num_threads=None,
    ),
    optimizer=Optimizer(
      name="sgd",
      learning_rate=1e-3,
      schedule="step",
      warmup_steps=1000,
      milestones=(400_000, 450_000),
      weight_decay=5e-4,
    ),
    yolo=Yolo(ignore_threshold=0.7, objectness=0.5),
    num_steps=500_200,
    batch_size=64,
    ema_decay=None,
    checkpoint_every=1000,
  )
