"""Descent through warps: paths through a cost image, and registration."""
