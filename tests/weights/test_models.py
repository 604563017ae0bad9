"""The table of networks that weights can belong to."""

import inspect

from vision_jax import weights
from vision_jax.weights import models


def test_every_published_network_is_there():
  known = models.constructors()
  published = {**weights.CATALOG, **weights.SEGMENTATION, **weights.FOREIGN}
  assert set(published) <= set(known)


def test_the_first_argument_is_the_number_of_classes():
  for name, constructor in models.constructors().items():
    first = next(iter(inspect.signature(constructor).parameters))
    assert first == "num_classes", name
