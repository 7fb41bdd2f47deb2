"""Alignment of attention, segmentation and ground truth: the definitions of DESIGN.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from attnseg.component import Doc, Measure
from attnseg.metrics.base import MM, POSITIVE, PX, MeanOverCases, check_maps
from attnseg.metrics.maps import (
    Moments,
    centre_of_mass,
    centre_of_region,
    distances_to_mask,
    moments,
    peaks,
    reference_scale,
)
from attnseg.metrics.regions import Region
from attnseg.metrics.values import Map, Prepared

OF_EVERY_CASE = ("attention_min", "attention_max", "attention_std")
"""Averaged over all cases: a collapsed map is a finding where there is no nodule too."""

_ATTENTION = "centre of mass of attention to that of mask"
_PREDICTION = "centre of mass of probability to that of mask"
_PEAK = "attention's peak to the nearest mask pixel"
_IN_MM = f"{POSITIVE} and known spacing"


def alignment_per_case(
    attention: Tensor,
    probability: Tensor,
    mask: Tensor,
    spacing: Tensor,
    prepared: Prepared | None = None,
) -> dict[str, Tensor]:
    """Every alignment measure of every case of a batch.

    - `*_overlap`: share of the second map's region inside the first map's top 10 % (pixels
      strictly above its 90th percentile); for attention_seg, of the attention's top 10 % inside
      the prediction's. A constant map scores 0. (A mask that covers more than a tenth of the
      image cannot be covered in full.)
    - `*_corr`: Pearson over pixels; a constant map scores 0.
    - `*_distance`: Euclidean distance between centres of mass, in pixels at 512 x 512 and, as
      `_mm`, in mm; a map without mass has its centre in the middle of the image.
    - `pointing_game`: 1 where the attention's peak is in the mask, else 0 (Zhang et al. 2018,
      doi 10.1007/s11263-017-1059-x, without tolerance). A tied peak scores the share of its
      pixels in the mask, so that no arbitrary order of pixels decides; a constant map scores 0.
      `pointing_game_distance`: from the peak to the nearest mask pixel, the mean over ties.
    - `energy_inside`: share of the attention's sum that is in the mask (Wang et al. 2020, doi
      10.1109/CVPRW50498.2020.00020); a map without mass scores 0. A uniform map would score
      `area_baseline` = |G| / N.
    - `soft_iou`: sum(min(a, g)) / sum(max(a, g)).
    - `nss`: mean in the mask of (a - mean) / standard deviation (Peters et al. 2005, doi
      10.1016/j.visres.2005.03.019); a constant map scores 0.
    - `attention_min`, `attention_max`, `attention_std` (population).

    Args:
        attention: (B, 1, H, W) in [0, 1].
        probability: (B, 1, H, W) in [0, 1], of the predicted mask.
        mask: (B, 1, H, W) ground truth, 0 or 1.
        spacing: (B, 2) mm per pixel at this size, row then column; NaN where unknown.
        prepared: what other metrics of the same batch look at, too.

    Returns:
        name -> (B,). NaN where a measure has no meaning: all but `OF_EVERY_CASE` for an empty
        mask, `_mm` where spacing is unknown.

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1.0
        >>> found = alignment_per_case(mask, mask, mask, torch.ones(1, 2))
        >>> float(found["attention_gt_overlap"]), float(found["attention_gt_distance"])
        (1.0, 0.0)
    """
    check_maps(attention, probability, mask)
    prepared = prepared or Prepared(probability, mask)
    truth = prepared.truth
    maps = Map(attention[:, 0]), prepared.probability
    attended, predicted = (one.values for one in maps)
    moment = moments(maps, truth)
    peak = peaks(attended, moment.high[:, 0], moment.constant[:, 0])
    values = {
        **_overlaps(*maps, truth),
        "attention_gt_corr": moment.correlation[:, 0, 2],
        "seg_gt_corr": moment.correlation[:, 1, 2],
        "attention_seg_corr": moment.correlation[:, 0, 1],
        **_distances(attended, predicted, truth, peak, spacing.to(mask.device)),
        **_saliency(attended, truth, peak, moment),
    }
    positive = moment.high[:, 2:] > 0
    defined = torch.where(positive, torch.stack([*values.values()], 1), torch.nan).unbind(1)
    extremes = (moment.low[:, 0], moment.high[:, 0], moment.std[:, 0])
    names = (*values, *OF_EVERY_CASE)
    return dict(zip(names, (*defined, *extremes), strict=True))


def _overlaps(attention: Map, segmentation: Map, truth: Region) -> dict[str, Tensor]:
    """The three overlaps of maps with the mask and with each other."""
    attended, predicted = attention.top_decile, segmentation.top_decile
    return {
        "attention_gt_overlap": truth.share_inside(attended),
        "seg_gt_overlap": truth.share_inside(predicted),
        "attention_seg_overlap": attended.share_inside(predicted),
    }


def _distances(
    attention: Tensor, segmentation: Tensor, truth: Region, peak: Region, spacing: Tensor
) -> dict[str, Tensor]:
    """The three distances, each in pixels at 512 x 512 and in mm; maps (B, H, W)."""
    centres = centre_of_mass([attention, segmentation])
    scales = torch.stack([reference_scale(attention), spacing])
    apart = ((centres - centre_of_region(truth))[:, None] * scales).norm(dim=-1)
    from_peak = distances_to_mask(peak, truth, scales)
    values: dict[str, Tensor] = {}
    for number, unit in enumerate(("", "_mm")):
        values["attention_gt_distance" + unit] = apart[0, number]
        values["seg_gt_distance" + unit] = apart[1, number]
        values["pointing_game_distance" + unit] = from_peak[number]
    return values


def _saliency(attention: Tensor, truth: Region, peak: Region, moment: Moments) -> dict[str, Tensor]:
    """Pointing game, energy, soft IoU and NSS of maps (B, H, W)."""
    n_pixels = attention[0].numel()
    total, baseline = moment.mean[:, 0] * n_pixels, moment.mean[:, 2]
    inside = truth.sum(attention)
    hit = peak.share_inside(truth)
    return {
        "pointing_game": torch.where(moment.constant[:, 0], 0.0, hit),
        "energy_inside": inside / torch.where(total == 0, 1.0, total),
        "area_baseline": baseline,
        # With g in {0, 1} and a in [0, 1]: min(a, g) = a g, and max(a, g) = a + g - a g.
        "soft_iou": inside / (total + baseline * n_pixels - inside),
        # mean_G(a) - mean(a) = cov(a, g) / mean(g), so NSS is the correlation, rescaled.
        "nss": moment.correlation[:, 0, 2] * moment.std[:, 2] / baseline,
    }


class AlignmentMetrics(MeanOverCases):
    """Means of `alignment_per_case`, and how many cases they are over.

    Computes `n_cases`, `n_positive`, `n_empty` (cases with an empty mask: in none of the means
    but those of `OF_EVERY_CASE`), `n_with_spacing` (the positive cases that the `_mm` means are
    over), `area_baseline`, and the means; NaN where no case counted.

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1.0
        >>> metric = AlignmentMetrics()
        >>> metric.update(mask, mask, mask, torch.ones(1, 2))
        >>> metric.compute()["pointing_game"]
        1.0
    """

    name = "alignment"
    measures = {
        "n_cases": Measure("cases evaluated"),
        "n_positive": Measure("cases with a non-empty mask"),
        "n_empty": Measure("cases with an empty mask: in none of the means over positives"),
        "n_with_spacing": Measure(
            "positive cases with known mm per pixel: those that means in mm are over"
        ),
        "seg_gt_overlap": Measure(
            f"share of mask pixels in the probability's top 10 %; {POSITIVE}", True, wanted=0.4
        ),
        "seg_gt_corr": Measure(f"Pearson over pixels, probability and mask; {POSITIVE}", True),
        "seg_gt_distance": Measure(f"{_PREDICTION}; {POSITIVE}", False, PX),
        "seg_gt_distance_mm": Measure(f"{_PREDICTION}; {_IN_MM}", False, MM),
        "area_baseline": Measure(
            f"share of the image that is mask: energy_inside of uniform attention; {POSITIVE}"
        ),
        "attention_gt_overlap": Measure(
            f"share of mask pixels in the attention's top 10 %; {POSITIVE}",
            True,
            wanted=0.6,
            needs_attention=True,
        ),
        "attention_seg_overlap": Measure(
            f"share of the attention's top 10 % in the probability's top 10 %; {POSITIVE}",
            True,
            needs_attention=True,
        ),
        "attention_gt_corr": Measure(
            f"Pearson over pixels, attention and mask; {POSITIVE}", True, needs_attention=True
        ),
        "attention_seg_corr": Measure(
            f"Pearson over pixels, attention and probability; {POSITIVE}",
            True,
            wanted=0.3,
            needs_attention=True,
        ),
        "attention_gt_distance": Measure(
            f"{_ATTENTION}; {POSITIVE}", False, PX, wanted=50.0, needs_attention=True
        ),
        "attention_gt_distance_mm": Measure(
            f"{_ATTENTION}; {_IN_MM}", False, MM, needs_attention=True
        ),
        "pointing_game": Measure(
            f"1 where the attention's peak is in the mask; {POSITIVE}", True, needs_attention=True
        ),
        "pointing_game_distance": Measure(f"{_PEAK}; {POSITIVE}", False, PX, needs_attention=True),
        "pointing_game_distance_mm": Measure(f"{_PEAK}; {_IN_MM}", False, MM, needs_attention=True),
        "energy_inside": Measure(
            f"share of the attention's sum inside the mask; {POSITIVE}", True, needs_attention=True
        ),
        "soft_iou": Measure(
            f"sum(min(attention, mask)) / sum(max(attention, mask)); {POSITIVE}",
            True,
            needs_attention=True,
        ),
        "nss": Measure(
            f"the attention's z-score in the mask; {POSITIVE}",
            True,
            "standard deviations",
            needs_attention=True,
        ),
        "attention_min": Measure(
            "lowest attention in the image; mean over all cases", needs_attention=True
        ),
        "attention_max": Measure(
            "highest attention in the image; mean over all cases", needs_attention=True
        ),
        "attention_std": Measure(
            "standard deviation of attention over pixels; mean over all cases",
            needs_attention=True,
        ),
    }
    n_cases: Tensor
    n_positive: Tensor
    n_with_spacing: Tensor

    def __init__(
        self,
        *,
        has_attention: Annotated[
            bool, Doc("false leaves out what is about attention, for a model without it")
        ] = True,
    ) -> None:
        super().__init__(
            name
            for name, measure in self.measures.items()
            if not name.startswith("n_") and (has_attention or not measure.needs_attention)
        )
        for name in ("n_cases", "n_positive", "n_with_spacing"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        attention: Tensor,
        probability: Tensor,
        mask: Tensor,
        spacing: Tensor,
        prepared: Prepared | None = None,
    ) -> None:
        """Add a batch; shapes and units as `alignment_per_case` has them."""
        values = alignment_per_case(attention, probability, mask, spacing, prepared)
        self.last = {name: values[name] for name in self.names}
        positive = ~values["area_baseline"].isnan()  # defined for every case with a mask
        measured = positive & spacing.to(mask.device).isfinite().all(-1)
        self.add(self.last, _counted(self.names, positive, measured))
        self.n_cases += len(mask)
        self.n_positive += positive.sum()
        self.n_with_spacing += measured.sum()

    def compute(self) -> dict[str, float]:
        """The means, and the counts behind them."""
        n_cases, n_positive = int(self.n_cases), int(self.n_positive)
        return {
            "n_cases": n_cases,
            "n_positive": n_positive,
            "n_empty": n_cases - n_positive,
            "n_with_spacing": int(self.n_with_spacing),
            **self.means(),
        }


def _counted(names: tuple[str, ...], positive: Tensor, measured: Tensor) -> Mapping[str, Tensor]:
    """Which cases each mean is over: name -> (B,) bool."""
    every = torch.ones_like(positive)
    return {
        name: every if name in OF_EVERY_CASE else measured if name.endswith("_mm") else positive
        for name in names
    }
