"""Semantic segmentation and PointRend: training, tables, curves, costs."""
