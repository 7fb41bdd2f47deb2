"""Supervised, anatomically aware attention for lung-nodule segmentation on DRRs and X-rays."""

__version__ = "0.1.0"
