"""Windows of many cases through a predictor: as many at once as memory allows, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.common.memory import available_memory
from attnseg.inference.predictor import Predictor

MOST = 16  # a larger batch gains no speed worth its memory
_SHARE = 0.5  # of the free memory that a batch may take
MAPS = ("probability", "attention", "std", "entropy")
"""What a window brings, in this order; the last two only of several passes."""


class BatchRunner:
    """Runs a predictor on windows, finds the batch size, halves it when memory runs out.

    Args:
        predictor: on its device, in eval mode.
        device: where.
        batch_size: windows at once; auto: measured on the first window.
    """

    def __init__(
        self, predictor: Predictor, device: str, batch_size: int | Literal["auto"] = "auto"
    ) -> None:
        self._predictor = predictor.to(device).eval()
        self._device = torch.device(device)
        self.batch_size = 1 if batch_size == "auto" else batch_size
        self._measured = batch_size != "auto"

    def __call__(self, inputs: Sequence[Tensor], keys: Sequence[str]) -> list[Tensor]:
        """Windows (2, S, S) -> maps (n, S, S) on the CPU, n as `MAPS` says; in order.

        Raises:
            ConfigError: a single window is too much for the memory.
            CheckpointError: the maps are not finite.
        """
        done: list[Tensor] = []
        while len(done) < len(inputs):
            try:
                if not self._measured:
                    self._measure(inputs[0])
                part = slice(len(done), len(done) + self.batch_size)
                done += self._run(inputs[part], keys[part])
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                self._back_off()
        return done

    @torch.inference_mode()
    def _run(self, inputs: Sequence[Tensor], keys: Sequence[str]) -> list[Tensor]:
        batch = torch.stack(list(inputs)).to(self._device)
        maps = self._predictor(batch[:, 0:1], batch[:, 1:2], keys)
        refuse_non_finite(maps.attention, maps.probability, keys)
        planes = [maps.probability, maps.attention]
        if maps.std is not None:
            planes += [maps.std, maps.entropy]
        return list(torch.cat(planes, dim=1).cpu())

    def _measure(self, window: Tensor) -> None:
        """Set the batch size by what one window takes and what is free."""
        self._measured = True
        needed = max(1, self._bytes_of(window))
        self.batch_size = max(1, min(MOST, int(_SHARE * free_memory(self._device) / needed)))

    def _bytes_of(self, window: Tensor) -> int:
        """Bytes that one window takes: CUDA's count; elsewhere every layer's output, a bound."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            before = torch.cuda.memory_allocated(self._device)
            self._run([window], ["measured"])
            return torch.cuda.max_memory_allocated(self._device) - before
        return max(self._outputs_of(model, window) for model in self._predictor.models)

    def _outputs_of(self, model: nn.Module, window: Tensor) -> int:
        """Bytes of every layer's output for one window."""
        total = 0

        def count(layer: nn.Module, given: object, output: object) -> None:
            nonlocal total
            if isinstance(output, Tensor):
                total += output.numel() * output.element_size()

        leaves = [layer for layer in model.modules() if not list(layer.children())]
        hooks = [leaf.register_forward_hook(count) for leaf in leaves]
        try:
            with torch.inference_mode():
                batch = window[None].to(self._device)
                model(batch[:, 0:1], batch[:, 1:2])
        finally:
            for hook in hooks:
                hook.remove()
        return total

    def _back_off(self) -> None:
        if self.batch_size == 1:
            raise ConfigError(
                f"not even one image of this size fits the memory of {self._device}; use another "
                "accelerator, or tta=none and mc_dropout=0"
            )
        self.batch_size //= 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; for a CPU see `available_memory`."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


def _out_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    known = ("out of memory", "not enough memory", "can't allocate memory", "bad alloc")
    return isinstance(error, MemoryError) or any(word in words for word in known)


def refuse_non_finite(attention: Tensor, probability: Tensor, case_ids: Sequence[str]) -> None:
    """Refuse maps (B, 1, H, W) of a model that has diverged.

    Raises:
        CheckpointError: names the cases whose maps are not finite.
    """
    fine = (attention.isfinite() & probability.isfinite()).flatten(1).all(-1).tolist()
    broken = [case_id for case_id, ok in zip(case_ids, fine, strict=True) if not ok]
    if broken:
        raise CheckpointError(
            f"the model's output is not finite (NaN or infinite) for case {', '.join(broken)}: "
            "its weights have diverged; evaluate an earlier checkpoint"
        )
