"""YOLOv3, spp and tiny against a rebuild in torch, live, of full size.

Run with `make parity`. Both sides read one synthetic file of weights, of
exactly the size of the published one.
"""

import pathlib
import tempfile

import jax
import numpy as np
import torch
from absl.testing import absltest, parameterized

from tests.parity import torch_yolo
from vision_jax import weights
from vision_jax.systems import yolo

# name, lines, size of the input, bytes of the published file
CASES = (
  ("yolov3", torch_yolo.yolov3(80), (128, 160), 248_007_048),
  ("yolov3_spp", torch_yolo.yolov3(80, spp=True), (96, 128), 252_209_544),
  ("yolov3_tiny", torch_yolo.tiny(80), (160, 128), 35_434_956),
)


def _write(path, program, image, seed=0):
  """A file of weights with maps of deviation 1, and loads it."""
  rng = np.random.default_rng(seed)
  arrays = []
  for k, conv in program.convs.items():
    out, inputs, size, _ = conv.weight.shape
    arrays.append(rng.uniform(-0.3, 0.3, out))
    if k in program.norms:
      arrays += [rng.uniform(0.8, 1.2, out), rng.uniform(-0.2, 0.2, out)]
      arrays.append(rng.uniform(0.7, 1.3, out))
    scale = np.float32((1.6 / (inputs * size**2)) ** 0.5)
    arrays.append(rng.standard_normal(conv.weight.numel(), np.float32) * scale)
  program.load(np.concatenate([a.astype("<f4") for a in arrays]))
  heads = [c for k, c in program.convs.items() if k not in program.norms]
  with torch.no_grad():
    for conv, values in zip(heads, program(image), strict=True):
      conv.weight /= values.std()
      conv.bias /= values.std()
  parts = [weights.DarknetHeader(0, 2, 0, 32013312).to_bytes()]
  for k, conv in program.convs.items():
    tensors = [conv.bias]
    if k in program.norms:
      norm = program.norms[k]
      tensors = [norm.bias, norm.weight, norm.running_mean, norm.running_var]
    parts += [t.detach().numpy().tobytes() for t in (*tensors, conv.weight)]
  path.write_bytes(b"".join(parts))


class YoloParityTest(parameterized.TestCase):
  @parameterized.named_parameters((case[0], *case) for case in CASES)
  def test_forward_and_detections(self, name, lines, size, file_size):
    program = torch_yolo.DarknetProgram(lines)
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    path = folder / f"{name}.weights"
    image = np.random.default_rng(1).random((1, *size, 3), np.float32)
    tensor = torch.from_numpy(image.transpose(0, 3, 1, 2))
    _write(path, program, tensor)
    self.assertEqual(path.stat().st_size, file_size)
    module, variables = weights.from_darknet(name, path)
    self.assertEqual(module.num_classes, 80)

    with jax.default_matmul_precision("highest"):
      maps, _ = jax.jit(module.apply)(variables, image)
    theirs = program(tensor)
    self.assertLen(maps, len(theirs))
    for ours, expected in zip(maps, theirs, strict=True):
      expected = expected.numpy()[0].transpose(1, 2, 0)
      self.assertGreater(expected.std(), 0.5)
      np.testing.assert_allclose(
        ours[0].reshape(expected.shape), expected, atol=1e-4
      )

    expected = torch_yolo.greedy_detections(
      [m[0] for m in theirs], module.anchors, size, 0.5, 0.45
    )[:100]
    self.assertGreater(len(expected), 10)
    self.assertGreater(len({label for _, label, _ in expected}), 3)
    if name == "yolov3_tiny":
      found = yolo.predict(
        module, variables, [image[0]], size=size, score_threshold=0.5
      )[0]
    else:  # without compiling the network once more
      found, exact = yolo.detect(
        [m[0] for m in maps],
        image_size=size,
        anchors=module.anchors,
        score_threshold=0.5,
        max_candidates=4000,
      )
      self.assertTrue(exact)
      found = {
        k: v[np.asarray(found.valid)]
        for k, v in found._asdict().items()
        if v is not None
      }
    self.assertLen(found["boxes"], len(expected))
    limit = np.tile(np.array(size[::-1], np.float32), 2)
    boxes = np.stack([box.numpy() for *_, box in expected])
    np.testing.assert_allclose(
      found["scores"], [score for score, *_ in expected], atol=1e-4
    )
    np.testing.assert_array_equal(
      found["labels"], [label for _, label, _ in expected]
    )
    np.testing.assert_allclose(
      np.clip(found["boxes"], 0, limit), np.clip(boxes, 0, limit), atol=1e-2
    )

    # Written again, the file is the same, bit by bit.
    copy = folder / "copy.weights"
    weights.write_darknet(
      copy,
      weights.variables_to_state_dict(module, variables),
      weights.darknet_layers(module),
      header=weights.read_darknet_header(path),
    )
    self.assertEqual(copy.read_bytes(), path.read_bytes())


if __name__ == "__main__":
  absltest.main()
