"""Regional attention: R-MAC regions weighed by a small trained head.

Kim, Yoon, "Regional Attention Based Deep Feature for Image Retrieval", BMVC
2018. Untrained weights of 1 give R-MAC.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax import ops
from vision_jax.nn import layers

__all__ = ["RegionalAttention", "attention_loss"]


class RegionalAttention(nn.Module):
  """Weighs region vectors by what they and the whole image look like.

  softplus(W2 tanh(W1 [mean of the region, mean of the image])), a number above
  0 for each region; the descriptor is the weighted sum.

  Attributes:
    hidden: units between the two layers.
    num_classes: size of the classifier that trains the head; None for none.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> head = retrieval.RegionalAttention()
    >>> vectors, means = jnp.ones((2, 7, 8)), jnp.ones((2, 7, 8))
    >>> image = jnp.ones((2, 8))
    >>> variables = head.init(jax.random.key(0), vectors, means, image)
    >>> head.apply(variables, vectors, means, image)[0].shape
    (2, 8)
  """

  hidden: int = 64
  num_classes: int | None = None

  @nn.compact
  def __call__(
    self, vectors: jax.Array, region_means: jax.Array, image_mean: jax.Array
  ) -> tuple[jax.Array, jax.Array | None]:
    """Vectors, means [B, R, D], [B, D] -> (unit vectors [B, D], logits)."""
    image = jnp.broadcast_to(image_mean[..., None, :], region_means.shape)
    x = jnp.concatenate([region_means, image], -1)
    x = nn.tanh(layers.Dense(self.hidden, name="hidden")(x))
    weights = nn.softplus(layers.Dense(1, name="score")(x))
    self.sow("intermediates", "weights", weights[..., 0])
    total = (weights * vectors).sum(-2)
    logits = None
    if self.num_classes is not None:
      logits = layers.Dense(self.num_classes, name="classifier")(total)
    return ops.unit_rows(total), logits


def attention_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Cross-entropy of the classifier that trains the head.

  Args:
    logits: [B, K].
    labels: int [B].

  Returns:
    The mean over the batch.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> print(retrieval.attention_loss(jnp.zeros((2, 4)), jnp.array([0, 3])))
    1.3862944

  Source:
    Kim, Yoon, BMVC 2018, sec. 3.3.
  """
  chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], -1)
  return -chosen.mean()
