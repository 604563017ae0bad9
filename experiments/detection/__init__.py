"""Detectors, trained and evaluated."""
