"""Image retrieval and instance search with descriptors of any network.

Descriptors of images (`image_descriptors`, `attention`, `vocabulary`,
`local_descriptors`), sources of regions (`region_sources`), search and ranking
(`exact_search`, `faiss_search`, `ranking`), and what is kept on disk
(`whitening_files`, `index_folder`).
"""

from vision_jax.systems.retrieval.attention import (
  RegionalAttention,
  attention_loss,
)
from vision_jax.systems.retrieval.exact_search import (
  Database,
  SearchResult,
  place_database,
  search,
)
from vision_jax.systems.retrieval.faiss_search import build_faiss, search_faiss
from vision_jax.systems.retrieval.image_descriptors import (
  cam_descriptor,
  cam_maps,
  cam_vectors,
  crow_descriptor,
  multi_scale,
  rmac_descriptor,
)
from vision_jax.systems.retrieval.index_folder import (
  IndexWriter,
  SearchIndex,
  SearchIndexError,
  read_index,
)
from vision_jax.systems.retrieval.local_descriptors import root_sift
from vision_jax.systems.retrieval.ranking import (
  ImageRanking,
  augment_database,
  diffuse,
  expand_queries,
  mutual_graph,
  rank_images,
)
from vision_jax.systems.retrieval.region_sources import (
  cam_boxes,
  concatenate_regions,
  full_image,
  oracle,
  rmac_grid,
)
from vision_jax.systems.retrieval.vocabulary import (
  HammingEmbedding,
  assign_words,
  blcf_histogram,
  embed_hamming,
  fit_hamming,
  hamming_scores,
  inverse_document_frequency,
  kmeans,
  region_vlad,
)
from vision_jax.systems.retrieval.whitening_files import (
  load_whitening,
  save_whitening,
)

__all__ = [
  "Database",
  "HammingEmbedding",
  "ImageRanking",
  "IndexWriter",
  "RegionalAttention",
  "SearchIndex",
  "SearchIndexError",
  "SearchResult",
  "assign_words",
  "attention_loss",
  "augment_database",
  "blcf_histogram",
  "build_faiss",
  "cam_boxes",
  "cam_descriptor",
  "cam_maps",
  "cam_vectors",
  "concatenate_regions",
  "crow_descriptor",
  "diffuse",
  "embed_hamming",
  "expand_queries",
  "fit_hamming",
  "full_image",
  "hamming_scores",
  "inverse_document_frequency",
  "kmeans",
  "load_whitening",
  "multi_scale",
  "mutual_graph",
  "oracle",
  "place_database",
  "rank_images",
  "read_index",
  "region_vlad",
  "rmac_descriptor",
  "rmac_grid",
  "root_sift",
  "save_whitening",
  "search",
  "search_faiss",
]
