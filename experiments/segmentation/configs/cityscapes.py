"""PointRend on DeepLabV3 for Cityscapes, after the paper's appendix B.

Run:     python -m experiments.segmentation.train cityscapes \
             --workdir runs/cityscapes --data-dir DIRECTORY_WITH_cityscapes
Expect:  78.4 % mean IoU is published for ResNet-103; no run here: the set is
         not part of this repository
Differs: ResNet-50 for ResNet-103, of which there are no weights of the
         backbone alone (mmsegmentation publishes 76.5 % for ResNet-50); image
         pooling over the whole map, as torchvision has it, not over the map of
         a training crop; the factor of resizing is drawn log-uniformly, not in
         steps of 32 pixels; scales and biases of the norms do not decay
Tiny:    add --tiny (a few updates)
"""

from experiments.segmentation.config import Config, Data, Optimizer


def get_config() -> Config:
  """Crops of 768, stride 16, ten times the rate for ASPP and predictor."""
  return Config(
    model="pointrend_deeplabv3_resnet50",
    part="joint",
    backbone="resnet50/IMAGENET1K_V1",
    output_stride=16,
    aux=False,
    data=Data(
      name="cityscapes",
      test="val",
      size=(768, 768),
      eval_size=(1024, 2048),
      # 0.5 to 2 times 1024 x 2048, of which 0.375 times fits into a crop.
      scales=(0.5 / 0.375, 2 / 0.375),
      num_classes=19,
      num_test=None,
      num_threads=None,
    ),
    optimizer=Optimizer(
      name="sgd",
      learning_rate=0.01,
      schedule="poly",
      warmup=1000,
      weight_decay=1e-4,
      clip_norm=None,
      head_factor=10.0,
    ),
    num_steps=90_000,
    num_points=2304,  # the cells of a crop at stride 16
    eval_batch_size=1,
    checkpoint_every=1000,
  )
