"""Writes what a small Mask R-CNN of torchvision finds, with torch.

ResNet-18 with a pyramid and narrow heads; every rule is torchvision's, from the
picture to the pasted mask.

Run from the repository root, with the `compare` extra installed:

  python -m tests.golden.make_detection

Weights are random by name. Statistics and last layers are fitted to a picture
(tests/parity/rcnn_models.py); those are kept: biases and statistics whole, of
kernels the factor. Read by tests/systems/rcnn/test_golden.py.
"""

import functools

import numpy as np

from tests.golden.make_backbones import ROOT, SEED, sample_indices

PATH = ROOT / "tests" / "golden" / "detection_mask_rcnn.npz"
SIZES = ((96, 128), (150, 101), (233, 300))
CLASSES, WIDTH, HIDDEN = 6, 32, 64
SETTINGS = {
  "min_size": 128,
  "max_size": 224,
  "rpn_pre_test": 200,
  "rpn_post_test": 40,
}


def pictures():
  """Random squares of 8 pixels, float32 [H, W, 3] in [0, 1], and the first."""
  rng = np.random.default_rng(SEED)
  found = []
  for height, width in ((128, 160), *SIZES):
    cells = rng.uniform(size=(-(-height // 8), -(-width // 8), 3))
    picture = cells.repeat(8, 0).repeat(8, 1)[:height, :width]
    found.append(picture.astype(np.float32))
  return found[1:], found[0]


def module():
  """Our side."""
  from vision_jax.nn import backbones
  from vision_jax.systems.rcnn.networks import RCNN, Backbone
  from vision_jax.systems.rcnn.settings import Settings

  names = tuple(f"layer{k}" for k in range(1, 5))
  return RCNN(
    Backbone(backbones.resnet18(None), names, 256),
    CLASSES,
    anchor_sizes=((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)),
    box_hidden=(HIDDEN, HIDDEN),
    mask_layers=(WIDTH,),
    settings=Settings(**SETTINGS),
  )


def torch_module():
  """torchvision's side."""
  import torch

  from tests.parity.torchvision_shim import torchvision

  detection = torchvision.models.detection
  backbone = detection.backbone_utils.resnet_fpn_backbone(
    backbone_name="resnet18",
    weights=None,
    norm_layer=torch.nn.BatchNorm2d,
    trainable_layers=5,
  )
  heads = detection.faster_rcnn, detection.mask_rcnn
  return detection.MaskRCNN(
    backbone,
    min_size=SETTINGS["min_size"],
    max_size=SETTINGS["max_size"],
    rpn_pre_nms_top_n_test=SETTINGS["rpn_pre_test"],
    rpn_post_nms_top_n_test=SETTINGS["rpn_post_test"],
    box_head=heads[0].TwoMLPHead(256 * 49, HIDDEN),
    box_predictor=heads[0].FastRCNNPredictor(HIDDEN, CLASSES),
    mask_head=heads[1].MaskRCNNHeads(256, (WIDTH,), 1),
    mask_predictor=heads[1].MaskRCNNPredictor(WIDTH, WIDTH, CLASSES),
  ).eval()


def state_of(golden, shapes):
  """The weights of both sides, from what the file keeps."""
  from vision_jax import weights

  state = weights.random_state_dict(shapes, seed=SEED)
  for key in golden:
    kind, _, name = key.partition(":")
    if kind == "factor":
      state[name] = state[name] * golden[key]
    elif kind == "value":
      state[name] = golden[key]
  return state


def main():
  import torch

  from tests.parity import rcnn_models
  from vision_jax import weights

  draw = functools.partial(weights.random_state_dict, seed=SEED)
  net, (images, first) = torch_module(), pictures()
  shapes = {k: tuple(v.shape) for k, v in net.state_dict().items()}
  drawn = {k: np.array(v) for k, v in draw(shapes).items()}
  net.load_state_dict({k: torch.from_numpy(v) for k, v in drawn.items()})
  rcnn_models.calibrate(net, first)
  arrays = {}
  for name, value in net.state_dict().items():
    value, old = value.numpy(), drawn[name]
    if np.array_equal(value, old) or name.endswith("num_batches_tracked"):
      continue
    if name.endswith("weight"):
      place = np.abs(old).argmax()
      factor = value.reshape(-1)[place] / old.reshape(-1)[place]
      arrays[f"factor:{name}"] = np.float32(factor)
    else:
      arrays[f"value:{name}"] = value
  state = state_of(arrays, shapes)
  net.load_state_dict(
    {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
  )
  with torch.no_grad():
    # One by one: in a batch torchvision's results depend on the padding.
    found = [
      net([torch.from_numpy(image.transpose(2, 0, 1).copy())])[0]
      for image in images
    ]
  for k, one in enumerate(found):
    boxes, labels, scores, masks = (
      one[name].numpy() for name in ("boxes", "labels", "scores", "masks")
    )
    assert len(scores) >= 10
    assert len(set(labels)) >= 3
    flat = masks[:, 0].reshape(len(masks), -1)
    arrays |= {
      f"boxes{k}": boxes,
      f"labels{k}": labels.astype(np.int8),
      f"scores{k}": scores,
      f"masks{k}": flat[:, sample_indices(flat.shape[1])],
      f"areas{k}": flat.sum(1, dtype=np.float64),
    }
    print(f"{len(scores)} detections of {len(set(labels))} classes")
  arrays["names"] = np.array(list(shapes))
  arrays["shapes"] = np.array(
    [[*s, *[0] * (4 - len(s))] for s in shapes.values()], np.int32
  )
  np.savez_compressed(PATH, **arrays)
  print(f"{PATH.name}: {PATH.stat().st_size} B")


if __name__ == "__main__":
  main()
