"""How this process gets its memory, and how much there is."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from attnseg.common.errors import ConfigError

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = -1


def reuse_freed_memory() -> bool:
    """Keep freed blocks for the next ones; True if the C library does so now.

    glibc gives every block above 32 MB back to the system as it is freed, and the next one costs
    a page fault every 4 KiB. Where feature maps are that large, this is up to two fifths of the
    CPU time of a training step (benchmarks/README.md). Kept, they cost up to a tenth more memory in
    training, three tenths in an evaluation. Other C libraries know no such switch, and nothing is
    changed. It holds for the process and cannot be undone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows takes no None
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER))
    return all(bool(mallopt(name, value)) for name, value in settings)


def available_memory() -> int:
    """Bytes that this machine has for new work: what Linux calls available, else a guess."""
    try:
        with Path("/proc/meminfo").open() as stream:
            lines = dict(line.split(":", 1) for line in stream)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
        except (OSError, ValueError):
            return 2**30


def ready_device(accelerator: str) -> str:
    """The torch device that an accelerator means; if the CPU, with freed memory used again.

    Raises:
        ConfigError: this machine has none.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not has_gpu:
        raise ConfigError(
            "accelerator=gpu: this machine shows no GPU to torch; use accelerator=cpu"
        )
    meant = {"gpu": "cuda", "auto": "cuda" if has_gpu else "cpu"}
    device = meant.get(accelerator, accelerator)
    if accelerator != "auto":
        try:
            torch.zeros(1, device=device)
        except Exception:  # which one depends on the device
            raise ConfigError(
                f"accelerator={accelerator}: this machine has none for torch; use accelerator=cpu"
            ) from None
    if device == "cpu":
        reuse_freed_memory()
    return device
