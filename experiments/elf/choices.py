"""What a user of ELF should choose: the layer that detects, the descriptor.

Run:  python -m experiments.elf.choices --write

Prints tables: detection by each layer beside what `elf.select_layer`
says without labels; descriptors of several layers, centred and whitened; and
corners of feature maps. Pairs, points and cache as in
`experiments.elf.evaluate`; whitening and layer choice see the training
photographs only.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from experiments import readme
from experiments.elf import evaluate, methods, report
from vision_jax import bench, data, nn, ops
from vision_jax.cli import parsing
from vision_jax.systems import elf
from vision_jax.systems.elf import views

LAYERS = {
  "vgg_small": ("pool1", "pool2", "pool3", "pool4"),
  "resnet_small": ("conv1", "layer1", "layer2", "layer3"),
}
DESCRIPTORS = (
  ("pool2",),
  ("pool3",),
  ("pool4",),
  ("pool3", "pool4"),
  ("pool2", "pool3", "pool4"),
)
CORNERS = ("relu1_1", "pool1", "pool2", "pool3")
CROP = (240, 320)  # of the photographs that choose a layer


@dataclasses.dataclass(frozen=True)
class Options:
  """What is compared.

  Attributes:
    max_keypoints: points per image.
    num_per_image: homography pairs for each of the seven photographs.
    cache: folder of features, safe to delete.
    write: put the tables into experiments/elf/README.md.
  """

  max_keypoints: int = 500
  num_per_image: int = 10
  cache: pathlib.Path = pathlib.Path("runs/elf_features")
  write: bool = False


def training_crops() -> Iterator[np.ndarray]:
  """Crops of 240 x 320 from the training photographs, four or fewer of each."""
  height, width = CROP
  for name in data.TRAINING:
    image = data.load_photograph(name)
    rows = sorted({0, image.shape[0] - height})
    columns = sorted({0, image.shape[1] - width})
    for top in rows:
      for left in columns:
        yield image[top : top + height, left : left + width]


def whitened_method(network: methods.Network) -> methods.Method:
  """ELF with whitened descriptors, learned on the training photographs."""
  plain = methods.elf_method(network)

  @functools.cache
  def learned() -> ops.Whitening:
    rows = []
    for crop in training_crops():
      found = plain.extract(crop)
      rows.append(np.asarray(found.descriptors)[np.asarray(found.valid)])
    return ops.fit_whitening(np.concatenate(rows))

  def adapt(images, keypoints):
    del images
    return tuple(
      k._replace(descriptors=ops.whiten(k.descriptors, learned()))
      for k in keypoints
    )

  return plain._replace(adapt=adapt)  # the stored features serve both


def corner_method(network: methods.Network, layer: str) -> methods.Method:
  """Harris corners of a layer's features, described by the network."""
  geometry = nn.endpoint_info(network.module)[layer]

  def respond(variables, image):
    x = elf.preprocess(image, network.config)
    _, endpoints = network.module.apply(variables, x[None])
    response = ops.harris_response(endpoints[layer][0])[..., None]
    return views.enlarge_map(response, geometry, image.shape[:2])[..., 0]

  settings = methods.elf_method(network).settings
  return methods.response_method(
    _set_config(network, layer, denoise_blur=(1, 1.0)),
    respond,
    name=layer,
    settings=f"corners {layer} {settings}",
  )


def compare(
  rows: Sequence[methods.Method], options: Options, label: str
) -> dict[str, dict]:
  """Name -> means over the homography pairs."""
  pairs = data.homography_pairs(num_per_image=options.num_per_image)
  total = options.num_per_image * len(data.EVALUATION)
  records = evaluate.evaluate_pairs(
    list(rows),
    pairs,
    evaluate.FeatureCache(options.cache),
    total=total,
    label=label,
  )
  return {name: evaluate.summarize(r) for name, r in records.items()}


def _set_config(network: methods.Network, name: str, **changes):
  """The network under another name with other settings."""
  config = dataclasses.replace(network.config, **changes)
  return network._replace(name=name, config=config)


def layer_table(network: methods.Network, options: Options) -> str:
  """Detection by every layer, and both rules that choose one."""
  layers = LAYERS[network.name]
  rows = [
    methods.elf_method(_set_config(network, name, saliency_layer=name))
    for name in layers
  ]
  found = compare(rows, options, f"{network.name} layers")
  crops = list(training_crops())
  choose = functools.partial(
    elf.select_layer,
    network.module,
    network.variables,
    layers=layers,
    config=network.config,
  )
  alone = {
    rule: [
      choose([crop], rule=rule)
      for crop in tqdm(crops, desc=f"{network.name} {rule}", unit="crop")
    ]
    for rule in ("scale", "repeatability")
  }
  agree = [
    abs(layers.index(a.layer) - layers.index(b.layer)) <= 1
    for a, b in zip(*alone.values(), strict=True)
  ]
  scale, share = (
    np.array([list(choice.values.values()) for choice in choices])
    for choices in alone.values()
  )
  scale, share = np.median(scale, 0), share.mean(0)
  chosen = {
    "by hand": network.config.saliency_layer,
    "scale": choose(crops, rule="scale").layer,
    "self-repeatability": layers[int(share.argmax())],
  }
  table = []
  for k, name in enumerate(layers):
    s = found[f"ELF {name}"]
    table.append(
      [
        name,
        f"{100 * s['repeatability']:.1f}",
        f"{100 * s['matching_score']:.1f}",
        f"{scale[k]:.1f}",
        f"{100 * share[k]:.1f}",
        ", ".join(rule for rule, layer in chosen.items() if layer == name),
      ]
    )
  header = (
    f"{network.name} detects at",
    "rep",
    "ms",
    "energy scale, px",
    "self-rep",
    "chosen",
  )
  return (
    readme.format_table(header, table)
    + "\n\nThe rules agree within one layer on "
    f"{100 * np.mean(agree):.0f} % of "
    f"{len(crops)} crops."
  )


def descriptor_table(network: methods.Network, options: Options) -> str:
  """Layers, their concatenation, centring, whitening."""
  rows = []
  for layers in DESCRIPTORS:
    label = " + ".join(layers)
    for suffix, center, white in (
      ("", False, False),
      (", centred", True, False),
      (", whitened", True, True),
    ):
      changed = _set_config(
        network, label + suffix, descriptor_layers=layers, center=center
      )
      make = whitened_method if white else methods.elf_method
      rows.append(make(changed))
  found = compare(rows, options, "descriptors")
  header = ("descriptor", "ms", "matches", "MMA@1/3/5", "MHA@1/3/5")
  lines = [
    [
      name.removeprefix("ELF "),
      f"{100 * s['matching_score']:.1f}",
      f"{s['num_matches']:.0f}",
      report.format_percent([s["mma"][t - 1] for t in (1, 3, 5)]),
      report.format_percent(s["mha"]),
    ]
    for name, s in found.items()
  ]
  return readme.format_table(header, lines)


def corner_table(network: methods.Network, options: Options) -> str:
  """Harris corners of feature maps beside their saliency."""
  rows = [corner_method(network, layer) for layer in CORNERS]
  found = compare(rows, options, "corners")
  lines = [
    [
      name,
      f"{s['num_points']:.0f}",
      f"{100 * s['repeatability']:.1f}",
      f"{100 * s['matching_score']:.1f}",
    ]
    for name, s in found.items()
  ]
  header = (f"Harris on {network.name}", "points", "rep", "ms")
  return readme.format_table(header, lines)


def main(options: Options) -> None:
  """Compares, prints, and writes."""
  started = time.perf_counter()
  networks = [
    methods.load_network(m, "bundled", max_keypoints=options.max_keypoints)
    for m in LAYERS
  ]
  parts = [layer_table(network, options) for network in networks]
  parts.append(descriptor_table(networks[0], options))
  parts.append(corner_table(networks[0], options))
  minutes = (time.perf_counter() - started) / 60
  text = "\n\n".join(parts) + f"\n\n{minutes:.1f} minutes."
  print(text)
  if options.write:
    command = "python -m experiments.elf.choices --write"
    block = f"{report.provenance(command)}\n\n{text}"
    readme.replace_block(report.README, "choices", block)


if __name__ == "__main__":
  bench.set_cpu_flags()
  main(
    parsing.read_options(
      Options,
      prog="python -m experiments.elf.choices",
      description=__doc__,
      use_underscores=True,
    )
  )
