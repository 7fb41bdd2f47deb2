"""Measuring a model on a split, and the job that keeps what was measured."""
