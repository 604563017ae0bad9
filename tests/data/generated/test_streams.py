"""Tests of the addressed random streams."""

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax.data import Domain, random_stream


class RandomStreamTest(parameterized.TestCase):
  def test_raw_words_are_frozen(self):
    """The address of a stream is part of every frozen set."""
    words = random_stream(Domain.TEXTURES, 3, 5, item=2).bit_generator
    np.testing.assert_array_equal(
      words.random_raw(3), _philox((3, 5), (0, 0, 2, 3))[:3]
    )

  def test_every_part_of_the_address_counts(self):
    addresses = [
      (domain, seed, index, item)
      for domain in Domain
      for seed in (0, 1, 2**64 - 1)
      for index in (0, 1, 2**40)
      for item in (0, 1, 2**63)
    ]
    first = {
      float(random_stream(d, s, i, item=t).random()) for d, s, i, t in addresses
    }
    self.assertLen(first, len(addresses))

  def test_domains_are_distinct(self):
    self.assertLen({int(domain) for domain in Domain}, len(Domain))

  @parameterized.parameters(
    ({"seed": -1}, ValueError, "`seed` must be in"),
    ({"index": -1}, ValueError, "`index` must be in"),
    ({"index": 2**64}, ValueError, "`index` must be in"),
    ({"item": -1}, ValueError, "`item` must be in"),
    ({"seed": 0.5}, TypeError, "`seed` must be an integer"),
    ({"index": True}, TypeError, "`index` must be an integer"),
  )
  def test_errors(self, change, kind, message):
    arguments = {"domain": Domain.TEXTURES, "seed": 0, "index": 0, **change}
    with self.assertRaisesRegex(kind, message):
      random_stream(**arguments)


def _philox(key, counter):
  """One block of Philox-4x64-10 in Python integers, after the paper."""
  mask = 2**64 - 1
  x = list(counter)
  x[0] += 1  # NumPy counts before it draws
  k = list(key)
  for _ in range(10):
    first, second = x[0] * 0xD2E7470EE14C6C93, x[2] * 0xCA5A826395121157
    x = [
      (second >> 64) ^ x[1] ^ k[0],
      second & mask,
      (first >> 64) ^ x[3] ^ k[1],
      first & mask,
    ]
    k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
  return x


if __name__ == "__main__":
  absltest.main()
