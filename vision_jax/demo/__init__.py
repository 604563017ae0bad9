"""The demo: every finished system on one self-contained page."""

from vision_jax.demo.runner import SECTIONS, DemoError, run_demo

__all__ = ["SECTIONS", "DemoError", "run_demo"]
