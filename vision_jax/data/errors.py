"""What a damaged, missing or foreign data set raises."""

__all__ = ["DataError"]


class DataError(ValueError):
  """A data set, or one example of it, that cannot be used.

  The text is one line that names the set, the place in it and the remedy.
  Where only one example is damaged, a pipeline may leave it out.

  Example:
    >>> from vision_jax.data import DataError
    >>> try:
    ...   raise DataError("example 7 of split 'train' is damaged")
    ... except ValueError as error:
    ...   print(error)
    example 7 of split 'train' is damaged
  """
