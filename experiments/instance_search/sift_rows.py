"""The rows without a network: SIFT+VLAD and BoVW with Hamming embedding."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import tqdm

from experiments.instance_search import benchmark
from vision_jax import ops
from vision_jax.systems import retrieval

NUM_CENTRES = 64
NUM_WORDS = 2000
MAX_KEYPOINTS = 300


def _describe(rows: list) -> list[np.ndarray]:
  return [
    retrieval.root_sift(image, max_keypoints=MAX_KEYPOINTS)[1]
    for image, _ in tqdm.tqdm(
      benchmark.draw(rows), total=len(rows), desc="SIFT", disable=None
    )
  ]


def _vlad(descriptors: np.ndarray, centres: np.ndarray) -> np.ndarray:
  """Padded, so that few programs are compiled."""
  room = 1 << max(len(descriptors) - 1, 63).bit_length()
  padded = np.zeros((room, 128), np.float32)
  padded[: len(descriptors)] = descriptors
  valid = jnp.arange(room) < len(descriptors)
  return np.asarray(ops.vlad(jnp.asarray(padded), centres, valid=valid))


def sift_scores(
  learn: list, database: list, crops: list[np.ndarray]
) -> dict[str, tuple[np.ndarray, Any]]:
  """Name -> scores of every picture for every query, [Q, N]."""
  known = np.concatenate(_describe(learn))
  found = _describe(database)
  asked = [
    retrieval.root_sift(crop, max_keypoints=MAX_KEYPOINTS)[1] for crop in crops
  ]
  centres = jnp.asarray(retrieval.kmeans(known, NUM_CENTRES, rounds=15))
  queries, vectors = (
    np.stack([_vlad(d, centres) for d in rows]) for rows in (asked, found)
  )
  words = retrieval.kmeans(known, NUM_WORDS, rounds=8)
  labels = retrieval.assign_words(known, words)
  embedding = retrieval.fit_hamming(known, labels, NUM_WORDS)

  def signatures(rows):
    pairs = []
    for descriptors in rows:
      word = retrieval.assign_words(descriptors, words)
      pairs.append(
        (word, retrieval.embed_hamming(descriptors, word, embedding))
      )
    return pairs

  images = signatures(found)
  idf = retrieval.inverse_document_frequency([w for w, _ in images], NUM_WORDS)
  bags = np.stack(
    [
      retrieval.hamming_scores(query, images, idf=idf)
      for query in signatures(asked)
    ]
  )
  return {"SIFT+VLAD": queries @ vectors.T, "BoVW+HE": bags}
