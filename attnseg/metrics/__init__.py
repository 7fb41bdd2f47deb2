"""Metrics: plain functions over (attention, probability, mask, spacing), and thin classes.

`ValidationMetrics` (in `collection`) holds them all. Definitions: DESIGN.md, and the docstrings
of `alignment`, `segmentation`, `surface`, `lesions`, `froc` and `original`.
"""
