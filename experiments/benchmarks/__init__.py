"""Timings beside PyTorch."""
