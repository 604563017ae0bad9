"""Small weights trained by `experiments/` of this repository."""
