"""Data: from a source's cases to batches of aligned X-rays, DRRs and masks.

A source (`readers`) lists cases and decodes them; `cache` keeps them decoded at the model's
size; `splits` divides patients; `dataset`, `sampling` and `loader` turn them into batches that
are a pure function of (seed, epoch, index); `datamodule` ties it together for Lightning.
"""
