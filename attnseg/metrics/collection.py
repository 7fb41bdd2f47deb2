"""All metrics behind one `update` and one flat `compute`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence

from torch import Tensor
from torchmetrics import MetricCollection

import attnseg.metrics
from attnseg.component import provide
from attnseg.metrics.alignment import AlignmentMetrics
from attnseg.metrics.base import CaseMetric
from attnseg.metrics.froc import LesionMetrics
from attnseg.metrics.lesions import LesionMatch
from attnseg.metrics.segmentation import SegmentationMetrics
from attnseg.metrics.values import Prepared


def own_metrics() -> list[type[CaseMetric]]:
    """The metrics of the files of `attnseg.metrics`, by file.

    Example:
        >>> {"alignment", "lesions"} <= {metric.name for metric in own_metrics()}
        True
    """
    found = []
    for file in pkgutil.iter_modules(attnseg.metrics.__path__):
        module = importlib.import_module(f"attnseg.metrics.{file.name}")
        found += [
            made
            for made in vars(module).values()
            if isinstance(made, type) and issubclass(made, CaseMetric)
            if made.__module__ == module.__name__ and "name" in vars(made)
        ]
    return found


class CaseMetrics(MetricCollection):
    """Metrics over cases behind one `update`, which looks once at what several of them need.

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1.0
        >>> metrics = CaseMetrics({"segmentation": SegmentationMetrics()})
        >>> metrics.update(mask, mask, mask, torch.ones(1, 2), ["case"])
        >>> metrics.compute()["dice_positive"]
        1.0
    """

    def __init__(self, metrics: Mapping[str, CaseMetric]) -> None:
        super().__init__(dict(metrics), compute_groups=False)

    def update(  # type: ignore[override]  # what every metric's update asks for, by name
        self,
        attention: Tensor,
        probability: Tensor,
        mask: Tensor,
        spacing: Tensor,
        case_ids: Sequence[str],
    ) -> None:
        """Add a batch.

        Args:
            attention: (B, 1, H, W) in [0, 1].
            probability: (B, 1, H, W) in [0, 1], of the predicted mask, from float32 logits
                (bfloat16 would tie most pixels).
            mask: (B, 1, H, W) ground truth, 0 or 1.
            spacing: (B, 2) mm per pixel at this size, row then column; NaN where unknown.
            case_ids: B ids, unique over the epoch.
        """
        super().update(
            attention=attention,
            probability=probability,
            mask=mask,
            spacing=spacing,
            case_ids=case_ids,
            prepared=Prepared(probability, mask),
        )

    def compute(self) -> dict[str, float]:
        """Every metric by its name; a float or (names in n_...) an int, NaN where undefined."""
        values: dict[str, float] = super().compute()
        return values


class TrainingMetrics(CaseMetrics):
    """What is cheap enough for training batches: alignment, and Dice at the best threshold.

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1.0
        >>> metrics = TrainingMetrics()
        >>> metrics.update(mask, mask, mask, torch.ones(1, 2), ["case"])
        >>> metrics.compute()["attention_gt_overlap"]
        1.0
    """

    def __init__(self, *, has_attention: bool = True) -> None:
        super().__init__(
            {
                "alignment": AlignmentMetrics(has_attention=has_attention),
                "segmentation": SegmentationMetrics(),
            }
        )


class ValidationMetrics(CaseMetrics):
    """Every metric of a validation epoch, or of an evaluation: all that `attnseg.metrics` has.

    The same object serves both: during training no threshold is known, so Dice and IoU are
    given at the best one (`best_threshold`, which a checkpoint then keeps), and lesions and
    HD95 at 0.5; an evaluation gives the checkpoint's threshold, and all are given at it.

    States are sums, counts and small rows on the module's device; exact over processes with
    uneven numbers of cases, as long as no case is on two of them.

    Args:
        threshold: a pixel is predicted where its probability is strictly above it; None during
            training.
        has_attention: False leaves out what is about attention, for a model without it.
        evaluation: add what only evaluations take the time for.

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1.0
        >>> metrics = ValidationMetrics(threshold=0.5)
        >>> metrics.update(mask, mask, mask, torch.ones(1, 2), ["case"])
        >>> metrics.compute()["lesion_sensitivity"]
        1.0
    """

    def __init__(
        self,
        threshold: float | None = None,
        *,
        has_attention: bool = True,
        evaluation: bool = False,
    ) -> None:
        told = {"threshold": threshold, "has_attention": has_attention, "evaluation": evaluation}
        super().__init__(
            {
                metric.name: provide(metric, **told)
                for metric in own_metrics()
                if evaluation or not all(one.evaluation for one in metric.measures.values())
            }
        )

    def last(self) -> list[dict[str, float]]:
        """Every per-case value of the last batch, a dict a case; NaN where it has no meaning."""
        columns: dict[str, list[float]] = {}
        for metric in self.values(copy_state=False):
            assert isinstance(metric, CaseMetric)
            columns |= {name: values.tolist() for name, values in metric.last.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def last_matches(self) -> list[LesionMatch]:
        """What became of the lesions of each case of the last batch; needs `lesions`."""
        metric = self["lesions"]
        assert isinstance(metric, LesionMetrics)
        return metric.last_matches
