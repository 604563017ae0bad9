"""yolo_layer.c of darknet, transcribed to NumPy loops in float64."""

import numpy as np


def sigmoid(x):
  return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def decode(value, row, column, shape, size, anchor):
  """(x, y, w, h) in shares of the image."""
  return np.array(
    [
      (column + sigmoid(value[0])) / shape[1],
      (row + sigmoid(value[1])) / shape[0],
      np.exp(value[2]) * anchor[0] / size[1],
      np.exp(value[3]) * anchor[1] / size[0],
    ]
  )


def iou(a, b):
  """Of two (x, y, w, h)."""
  shared = 1.0
  for k in (0, 1):
    low = max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2)
    high = min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2)
    if high <= low:
      return 0.0
    shared *= high - low
  return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def deltas(maps, truths, labels, size, anchors, ignore):
  """What darknet passes back: the negative gradient by the maps.

  `truths`: (x, y, w, h) in shares; `anchors`: coarse first, as the maps.
  """
  every = [a for group in anchors[::-1] for a in group]  # darknet's numbers
  result = []
  for values, group in zip(maps, anchors, strict=True):
    rows, columns, number, length = values.shape
    delta = np.zeros(values.shape)
    for j in range(rows):
      for i in range(columns):
        for n in range(number):
          value = values[j, i, n]
          box = decode(value, j, i, (rows, columns), size, group[n])
          best = max([iou(box, t) for t in truths], default=0.0)
          delta[j, i, n, 4] = 0 - sigmoid(value[4])
          if best > ignore:
            delta[j, i, n, 4] = 0
    for truth, label in zip(truths, labels, strict=True):
      i, j = int(truth[0] * columns), int(truth[1] * rows)
      best, best_n = 0.0, 0
      for n, anchor in enumerate(every):
        here = (0, 0, anchor[0] / size[1], anchor[1] / size[0])
        overlap = iou(here, (0, 0, truth[2], truth[3]))
        if overlap > best:
          best, best_n = overlap, n
      if every[best_n] not in group:
        continue
      n = group.index(every[best_n])
      value, out = values[j, i, n], delta[j, i, n]
      scale = 2 - truth[2] * truth[3]
      out[0] = scale * (truth[0] * columns - i - sigmoid(value[0]))
      out[1] = scale * (truth[1] * rows - j - sigmoid(value[1]))
      for k in (2, 3):
        side = np.log(truth[k] * size[3 - k] / group[n][k - 2])
        out[k] = scale * (side - value[k])
      out[4] = 1 - sigmoid(value[4])
      if out[5]:
        out[5 + label] = 1 - sigmoid(value[5 + label])
        continue
      for k in range(length - 5):
        out[5 + k] = (k == label) - sigmoid(value[5 + k])
    result.append(delta)
  return result


def scene(rng, *, size, count, classes):
  """Boxes (x1, y1, x2, y2) in pixels, and labels; two share a place."""
  middle = rng.uniform(0.05, 0.95, (count, 2)) * size[::-1]
  sides = np.exp(rng.uniform(np.log(6), np.log(60), (count, 2)))
  if count > 2:  # two of one place and form
    middle[1], sides[1] = middle[0], sides[0] * 1.01
  boxes = np.concatenate([middle - sides / 2, middle + sides / 2], 1)
  return boxes, rng.integers(0, classes, count)


def shares(boxes, size):
  """Boxes in pixels as (x, y, w, h) in shares of the image."""
  boxes = np.asarray(boxes, np.float64)
  scale = np.array(size[::-1], np.float64)
  middle = (boxes[:, :2] + boxes[:, 2:]) / 2 / scale
  return np.concatenate([middle, (boxes[:, 2:] - boxes[:, :2]) / scale], 1)
