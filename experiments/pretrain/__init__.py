"""Pretraining of the bundled networks."""
