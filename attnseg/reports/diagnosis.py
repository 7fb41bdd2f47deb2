"""What is wrong between attention, segmentation and ground truth: in words, with the numbers.

Pure functions over a summary (metric name -> mean) and rows of cases (the same names, and
case_id, dice, n_mask_pixels, and n_predicted_pixels where it is known).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from attnseg.reports.cases import (
    ATTENTION_HITS,
    FOUND_DICE,
    OVER_PREDICTION,
    Row,
    classify_case,
    collapsed,
    of_class,
    over_predicted,
    positives,
    predicted_ratio,
    values_of,
)
from attnseg.reports.style import TARGETS, as_float, mean, number

__all__ = ["Finding", "classify_case", "diagnose"]

Severity = Literal["critical", "warning", "good", "info"]
_ORDER: tuple[Severity, ...] = ("critical", "warning", "good", "info")

CHANCE_OVERLAP = 0.1  # a random map's top 10 % holds a tenth of anything
NEAR_CHANCE = 2 * CHANCE_OVERLAP  # a map of half the image, the right one, reaches twice chance
PEAK_OFF = 50.0  # px at 512, as for the centres of mass: a tenth of the image
MANY = 0.2  # share of the cases from which a fault is the model's rather than the case's
ENERGY_GAIN = 2.0  # energy_inside over area_baseline: half the image, the right one, gives 2 x
LOW_NSS = 1.0  # standard deviations above the map's mean: the same half gives 1
SAME_SPREAD = 1e-3  # relative range of the maps' std and max over cases: images differ by more
FALSE_LESIONS = 1.0  # false lesions per negative: the usual working point of readers and CAD
MENDABLE = 0.05  # of Dice: what mending one kind of error must bring to be worth a word
MUCH_WORSE = 0.75  # of the training cases' Dice
NORMAL_95 = 1.96  # standard errors to either side
FEW_CASES = 10  # below, one case moves a mean by a tenth
_WORST = 5  # cases named in a finding


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (or right), for a reader who decides what to change.

    Attributes:
        code: stable name, for machines.
        severity: critical | warning | good | info.
        title: one line.
        explanation: what was measured and what it means.
        numbers: the measured values behind it.
        cases: ids of the worst cases, worst first; may be empty.
        advice: what to try; empty where nothing need be done.
    """

    code: str
    severity: Severity
    title: str
    explanation: str
    numbers: dict[str, float] = field(default_factory=dict)
    cases: list[str] = field(default_factory=list)
    advice: str = ""


def diagnose(summary: Row, cases: Sequence[Row], training: Sequence[Row] = ()) -> list[Finding]:
    """Everything wrong, worst first; 'aligned' where attention was measured and nothing is.

    Args:
        summary: means over the data set, by the metric names of DESIGN.md, and n_positive.
        cases: one row a case.
        training: rows of cases that trained the model, where it did not train on `cases`.
    """
    checks = (*(check(summary, cases) for check in _CHECKS), _training_gap(cases, training))
    found = [finding for finding in checks if finding is not None]
    if not any(finding.severity in ("critical", "warning") for finding in found):
        found += _aligned(summary)
    return sorted(found, key=lambda finding: _ORDER.index(finding.severity))


def _no_attention(summary: Row, cases: Sequence[Row]) -> Finding | None:
    names = ("attention_gt_overlap", "attention_std")
    if any(_numbers(row, *names) for row in (summary, *cases)):
        return None
    text = "No attention metric was measured, so only the segmentation can be judged."
    return Finding("no_attention", "info", "The model has no attention map", text)


def _collapsed_map(summary: Row, cases: Sequence[Row]) -> Finding | None:
    measured = [row for row in cases if _numbers(row, "attention_std")]
    flat = [row for row in measured if collapsed(row)]
    if not collapsed(summary) and len(flat) < max(1.0, MANY * len(measured)):
        return None
    value = values_of(summary)
    constant = sum(as_float(row.get("attention_std")) == 0 for row in flat)
    return Finding(
        "collapsed_map",
        "critical",
        "The attention map has collapsed",
        f"It is nearly flat in {len(flat)} of {len(measured)} cases, exactly constant in"
        f" {constant}; over all cases its values go from {number(value('attention_min'))} to"
        f" {number(value('attention_max'))} with a standard deviation of"
        f" {number(value('attention_std'))}. A flat map says nothing about where to look, and"
        " every other attention metric is noise then.",
        {
            **_numbers(summary, "attention_min", "attention_max", "attention_std"),
            "share_of_cases": len(flat) / max(1, len(measured)),
        },
        _worst(flat, "attention_std"),
        "Raise the attention weight or start with a phase of attention alone; lower the"
        " attention's temperature; check that it is not frozen and its learning rate not 0.",
    )


def _same_map_everywhere(summary: Row, cases: Sequence[Row]) -> Finding | None:
    """A map that does not depend on the image has the same range for every one."""
    names = ("attention_max", "attention_std")
    rows = [row for row in cases if len(_numbers(row, *names)) == 2 and not collapsed(row)]
    if len(rows) < FEW_CASES:
        return None
    spread = {}
    for name in names:
        values = [as_float(row[name]) for row in rows]
        spread[f"relative_range_of_{name}"] = (max(values) - min(values)) / mean(values)
    if max(spread.values()) > SAME_SPREAD:
        return None
    return Finding(
        "same_map_everywhere",
        "critical",
        "The attention map does not depend on the image",
        f"Its maximum and standard deviation are the same in all {len(rows)} cases, to within"
        f" {number(100 * max(spread.values()))} %: one map for every patient, a location prior.",
        spread,
        advice="Check that the images reach the attention (normalisation, frozen or dead layers),"
        " and raise the attention weight.",
    )


def _attention_at_chance(summary: Row, cases: Sequence[Row]) -> Finding | None:
    value = values_of(summary)
    area = value("area_baseline")
    gain = value("energy_inside") / area if area else math.nan
    if collapsed(summary) or not (gain < ENERGY_GAIN or value("nss") < LOW_NSS):
        return None
    return Finding(
        "attention_at_chance",
        "critical",
        "Attention is little better than a uniform map",
        f"The lesion gets {number(gain)} times the attention that a uniform map would give it"
        f" (energy_inside {number(value('energy_inside'))}, area baseline {number(area)}), and is"
        f" {number(value('nss'))} standard deviations above the map's mean . Wanted are at"
        f" least {number(ENERGY_GAIN)} times and {number(LOW_NSS)}, which a map that is even over"
        " half of the image, and 0 elsewhere, gives wherever the lesion is in that half.",
        {**_numbers(summary, "energy_inside", "area_baseline", "nss"), "energy_gain": gain},
        _worst(positives(cases), "nss"),
        "Supervise the attention (every schedule but none does), with a higher weight and longer.",
    )


def _misaligned(summary: Row, cases: Sequence[Row]) -> Finding | None:
    value, names = values_of(summary), ("attention_gt_overlap", "attention_gt_distance")
    off = [name for name in names if _numbers(summary, name) and not _met(summary, name)]
    peak_off = value("pointing_game_distance") > PEAK_OFF
    if collapsed(summary) or not (off or peak_off):
        return None
    title, more = "Attention is not on the lesion", ""
    if "attention_gt_overlap" not in off:
        which = "peak" if peak_off else "centre of mass"
        title = f"Attention's {which} is off the lesion"
        more = " The top 10 % is right, though: look at the pictures before changing anything."
    if off == ["attention_gt_distance"] and not peak_off:
        more += " A weak glow over the image, or several lesions in one case, can do that to a"
        more += " centre of mass."
    overlap, distance = (TARGETS[name].wanted for name in names)
    return Finding(
        "misaligned_attention",
        "critical" if value(names[0]) < NEAR_CHANCE else "warning",
        title,
        f"Its centre of mass is {number(value(names[1]))} px from the lesion's (wanted below"
        f" {number(distance)}, at 512 x 512), its top 10 % holds {number(value(names[0]))} of the"
        f" lesion (wanted above {number(overlap)}; a random map holds {number(CHANCE_OVERLAP)}),"
        f" and its peak is {number(value('pointing_game_distance'))} px from the nearest lesion"
        f" pixel.{more}",
        _numbers(summary, *names, "pointing_game_distance", "pointing_game"),
        _worst(positives(cases), names[0]),
        "Raise the attention weight or lengthen the attention phase. Where the training cases"
        " are far better, it overfits: augment more.",
    )


def _follows_wrong_attention(summary: Row, cases: Sequence[Row]) -> Finding | None:
    rows = of_class(cases, "follows_wrong_attention")
    names = ("attention_gt_overlap", "attention_seg_overlap", "seg_gt_overlap")
    there = [number(mean(as_float(row.get(name)) for row in rows)) for name in names]
    return _in_many(
        "follows_wrong_attention",
        "critical",
        "Segmentation follows attention to the wrong place",
        f"attention misses the lesion (its top 10 % holds {there[0]} of it), and the segmentation"
        f" shares more with the attention ({there[1]}) than with the lesion ({there[2]}).",
        rows,
        positives(cases),
        "Mend the attention first: the segmentation already trusts it. Keep the alignment weight"
        " low until attention_gt_overlap has risen, or set loss.alignment.detach=segmentation so"
        " that it moves the attention alone.",
    )


def _disagree(summary: Row, cases: Sequence[Row]) -> Finding | None:
    value, wanted = values_of(summary), TARGETS["attention_seg_corr"].wanted
    corr, shared = value("attention_seg_corr"), value("attention_seg_overlap")
    # Beside a sharp map most of the top 10 % is background in either, so the overlap alone tells
    # nothing where the maps correlate.
    if collapsed(summary) or not (corr <= wanted):
        return None
    return Finding(
        "attention_and_segmentation_disagree",
        "warning",
        "Attention and segmentation disagree",
        f"Their maps correlate by {number(corr)} (wanted above {number(wanted)}), and"
        f" {number(shared)} of the attention's top 10 % is in the segmentation's (chance"
        f" {number(CHANCE_OVERLAP)}): they do not look at the same thing.",
        _numbers(summary, "attention_seg_corr", "attention_seg_overlap", "seg_gt_overlap"),
        _worst(positives(cases), "attention_seg_corr"),
        "Raise the alignment weight once attention is on the lesion; check that alpha, by which"
        " attention scales the features, is not near 0.",
    )


def _ignores_attention(summary: Row, cases: Sequence[Row]) -> Finding | None:
    return _in_many(
        "ignores_attention",
        "warning",
        "Segmentation ignores attention that is right",
        f"at least {number(ATTENTION_HITS)} of the lesion is in the attention's top 10 %, and yet"
        f" Dice is below {number(FOUND_DICE)}: what the attention knows is not used.",
        of_class(cases, "ignores_attention"),
        positives(cases),
        "Raise model.fusion.alpha, give the joint phase more epochs, and weight the segmentation"
        " loss for small lesions (Tversky, foreground patches).",
    )


def _empty(summary: Row, cases: Sequence[Row]) -> Finding | None:
    rows, of = of_class(cases, "empty_prediction"), positives(cases)
    return _in_many(
        "empty_prediction",
        "critical",
        "Segmentation predicts nothing" if len(rows) == len(of) else "Segmentation is often empty",
        "not one pixel reaches the threshold, although there is a lesion.",
        rows,
        of,
        "Lower threshold=, or train with more foreground patches, a higher bce_pos_weight or a"
        " Tversky loss; check that training went past its attention phase.",
    )


def _over_predicts(summary: Row, cases: Sequence[Row]) -> Finding | None:
    rows = [row for row in cases if over_predicted(row)]
    ratio = mean(predicted_ratio(row) for row in rows)
    return _in_many(
        "over_predicted",
        "warning",
        "Segmentation predicts far too much",
        f"more than {number(OVER_PREDICTION)} times the lesion's pixels are predicted:"
        f" {number(ratio)} times on average.",
        rows,
        positives(cases),
        "Raise threshold=, or give less weight to the positive class and to foreground patches.",
    )


def _false_positives(summary: Row, cases: Sequence[Row]) -> Finding | None:
    names = ("false_positive_lesions_per_negative", "false_positive_pixels_per_negative")
    lesions, pixels = (as_float(summary.get(name)) for name in names)
    if not lesions > FALSE_LESIONS:
        return None
    wrong = of_class(cases, "false_positive")
    n_negative = len(cases) - len(positives(cases))
    return Finding(
        "false_positives_on_negatives",
        "warning",
        "Lesions are found where there are none",
        f"{number(lesions)} false lesions per case without a lesion (tolerable: up to"
        f" {number(FALSE_LESIONS)}), of {number(pixels)} pixels together; {len(wrong)} of"
        f" {n_negative} such cases have at least one.",
        _numbers(summary, *names),
        _worst(wrong, "n_predicted_pixels", largest=True),
        "Raise threshold=, and show the model more cases without a lesion.",
    )


def _dice_is_lost(summary: Row, cases: Sequence[Row]) -> Finding | None:
    value = values_of(summary)
    dice = value("dice_positive")
    most = max(_ERRORS, key=value)
    if not value(most) - dice >= MENDABLE:  # NaN where nothing was measured
        return None
    error, advice = _ERRORS[most]
    without, exact, found = (number(value(name)) for name in _ERRORS)
    return Finding(
        "dice_lost",
        "info",
        f"The most Dice is lost to {error}",
        f"dice_positive is {number(dice)}. With that alone changed it would be {without} without"
        f" the false lesions, {exact} if the lesions that are found had their true outlines, or"
        f" {found} if the others were found.",
        {"dice_positive": dice, **_numbers(summary, *_ERRORS)},
        advice=advice,
    )


_ERRORS = {
    "dice_without_false_lesions": (
        "false lesions",
        "Raise threshold=, show the model more cases without a lesion, or average several models.",
    ),
    "dice_with_exact_outlines": (
        "inexact outlines",
        "Train on more pixels (data.size), and weight outlines (loss.segmentation.boundary); two"
        " readers' outlines agree only so far.",
    ),
    "dice_with_all_found": (
        "lesions that are not found",
        "gt_lesions.csv lists them with their sizes: whether they can be seen at all is the first"
        " question. More pixels (data.size), synthetic nodules (data.synthetic) and a pretrained"
        " encoder find more.",
    ),
}
"""Of Dice with one kind of error mended: what that is, and what to try against it."""


def _training_gap(cases: Sequence[Row], training: Sequence[Row]) -> Finding | None:
    """Whether the model knows its training cases by heart: two means, Welch's standard error.

    Over patients, since the cases of one are alike: each is the mean of its positive cases.
    """
    groups = [_of_patients(positives(rows), "dice") for rows in (training, cases)]
    if any(len(values) < FEW_CASES for values in groups):
        return None
    known, held_out = (statistics.fmean(values) for values in groups)
    error = math.sqrt(sum(statistics.variance(values) / len(values) for values in groups))
    gap, margin = known - held_out, NORMAL_95 * error
    others = ""
    for name in ("attention_gt_overlap", "pointing_game"):
        values = [mean(_known(positives(rows), name)) for rows in (training, cases)]
        if not any(map(math.isnan, values)):
            others += f"; {name} {number(values[0])} and {number(values[1])}"
    text = (
        f"Mean Dice is {number(known)} in {len(groups[0])} patients that trained it,"
        f" {number(held_out)} in these {len(groups[1])}: a difference of {gap:+.3f}"
        f" [{gap - margin:+.3f}, {gap + margin:+.3f}]{others}."
    )
    numbers = {"dice_training": known, "dice_held_out": held_out, "margin": margin}
    if gap > margin and held_out < MUCH_WORSE * known:
        return Finding(
            "training_gap",
            "warning",
            "It knows its training cases by heart",
            text,
            numbers,
            advice="Longer training may widen this. More augmentation (data.augment), synthetic"
            " nodules (data.synthetic), fewer epochs or a smaller network may narrow it. Whether"
            " more cases would help is told by fewer: data.split.train_fraction=0.5, equal steps.",
        )
    if gap + margin < (1.0 - MUCH_WORSE) * known:
        return Finding(
            "no_training_gap",
            "info",
            "Training cases are hardly better",
            text,
            numbers,
            advice="What it has learnt holds for other patients, too. Where that is not enough,"
            " train longer, on more pixels (data.size) or a larger network, and look whether the"
            " images show the lesions at all.",
        )
    return None  # neither is shown


def _known(rows: Sequence[Row], name: str) -> list[float]:
    """The values of a column, without those that have no meaning."""
    values = (as_float(row.get(name)) for row in rows)
    return [value for value in values if not math.isnan(value)]


def _of_patients(rows: Sequence[Row], name: str) -> list[float]:
    """The same, averaged over the cases of each patient."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if not math.isnan(value := as_float(row.get(name))):
            values.setdefault(str(row.get("patient_id") or row["case_id"]), []).append(value)
    return [statistics.fmean(one) for one in values.values()]


def _few_cases(summary: Row, cases: Sequence[Row]) -> Finding | None:
    n_positive = as_float(summary.get("n_positive", len(positives(cases))))
    if not n_positive < FEW_CASES:
        return None
    return Finding(
        "few_cases",
        "info",
        "Few cases",
        f"Only {number(n_positive)} cases have a lesion: one of them moves every mean by a lot.",
        {"n_positive": n_positive},
        advice="Take every finding as a hint, and measure on more cases (split=all, or k-fold).",
    )


_CHECKS: tuple[Callable[[Row, Sequence[Row]], Finding | None], ...] = (
    _no_attention,
    _collapsed_map,
    _same_map_everywhere,
    _attention_at_chance,
    _misaligned,
    _follows_wrong_attention,
    _empty,
    _disagree,
    _ignores_attention,
    _over_predicts,
    _false_positives,
    _dice_is_lost,
    _few_cases,
)


def _aligned(summary: Row) -> list[Finding]:
    names = ("attention_gt_overlap", "attention_seg_corr", "attention_gt_distance")
    if not all(_met(summary, name) for name in names):
        return []
    values = _numbers(summary, *names, "dice_positive")
    words = ", ".join(f"{name} {number(value)}" for name, value in values.items())
    text = f"Attention is on the lesion and the segmentation agrees with it: {words}."
    return [Finding("aligned", "good", "Attention and segmentation are aligned", text, values)]


def _in_many(
    code: str,
    severity: Severity,
    title: str,
    text: str,
    rows: Sequence[Row],
    of: Sequence[Row],
    advice: str,
) -> Finding | None:
    """A finding where `rows` are MANY `of` the positive cases."""
    if len(rows) < max(1.0, MANY * len(of)):
        return None
    dice = mean(as_float(row.get("dice")) for row in rows)
    text = f"In {len(rows)} of {len(of)} positive cases {text} Dice there is {number(dice)}."
    values = {"share_of_positives": len(rows) / len(of), "dice_there": dice}
    return Finding(code, severity, title, text, values, _worst(rows, "dice"), advice)


def _numbers(row: Row, *names: str) -> dict[str, float]:
    """Those of the named values that are known."""
    values = {name: as_float(row.get(name)) for name in names}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _met(row: Row, name: str) -> bool:
    return TARGETS[name].met(as_float(row.get(name)))


def _worst(rows: Sequence[Row], by: str, *, largest: bool = False) -> list[str]:
    """Ids of the cases with the smallest (or largest) known value of `by`."""
    known = [row for row in rows if _numbers(row, by)]
    known.sort(key=lambda row: (as_float(row[by]) * (-1 if largest else 1), str(row["case_id"])))
    return [str(row["case_id"]) for row in known[:_WORST]]
