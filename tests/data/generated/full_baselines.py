"""Trivial baselines at full size, too slow for every run of the tests.

Run: python -m tests.data.generated.full_baselines

Prints the numbers of vision_jax/data/GENERATED.md that the tests bound on
smaller sets only.
"""

from tests.data.generated import test_generated_shapes as shapes
from tests.data.generated import test_instances as instances
from vision_jax import data


def print_shapes():
  print("generated_shapes, nearest neighbour, 2,000 pictures learnt, 500 asked")
  settings = {"learnt": 2000, "asked": 500}
  for name, describe in (
    ("raw pixels", lambda crop: crop),
    ("colour histograms", shapes.colours),
  ):
    print(f"  {name}: {100 * shapes.nearest(describe, **settings):.1f} %")


def print_instances():
  # A longer list of distractors begins with the shorter one.
  records = data.instance_set(num_distractors=1000)
  examples = [data.draw_instance_image(record) for record in records]
  for count in (300, 1000):
    left = count
    kept = []
    for pair in zip(records, examples, strict=True):
      left -= pair[0].kind == "distractor"
      if pair[0].kind != "distractor" or left >= 0:
        kept.append(pair)
    drawn = tuple(zip(*kept, strict=True))
    print(f"generated_instances, mean average precision, {count} distractors")
    for name, describe in (
      ("colour histogram", instances.histogram),
      ("32 x 32 pixels", instances.pixels),
    ):
      found, chance = instances.ranking_scores(describe, drawn=drawn)
      print(f"  {name}: {found:.3f} (random {chance:.3f})")


if __name__ == "__main__":
  print_shapes()
  print_instances()
