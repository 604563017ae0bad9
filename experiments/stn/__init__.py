"""Spatial transformers on distorted digits: the table of the paper."""
