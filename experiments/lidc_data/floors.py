"""The floors, on held-out patients: location priors, and the learned local observer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.progress import Progress

from attnseg.config import SplitConfig
from attnseg.data.splits import make_splits
from experiments.lidc_data.cases import Studied
from experiments.lidc_data.observer import (
    Features,
    fit_observer,
    local_features,
    observer_beats,
    predict_map,
)
from experiments.lidc_data.prior import (
    Map,
    centred_prior,
    lung_prior,
    score_prediction,
    uniform_lungs,
)
from experiments.lidc_data.tables import Line

FOLDS = 5

SIGMA = 24.0
"""px at 512: smoothing of the location priors."""

Fold = tuple[list[Studied], list[Studied]]
"""Training cases, held-out cases."""


def patient_folds(studied: Sequence[Studied]) -> list[Fold]:
    """Five folds by patient, the ones of `data.split.kind=kfold` with seed 0."""
    by_id = {one.case.case_id: one for one in studied}
    cases = [one.case for one in studied]
    folds = []
    for fold in range(FOLDS):
        splits = make_splits(cases, SplitConfig(kind="kfold", folds=FOLDS, fold=fold))
        train, held_out = ([by_id[case.case_id] for case in g] for g in (splits.train, splits.val))
        folds.append((train, held_out))
    return folds


def prior_lines(folds: Sequence[Fold], size: int, bar: Progress) -> list[Line]:
    """Every evaluation metric of each location prior."""
    kinds = {
        "image frame": centred_prior,
        "lung box": lung_prior,
        "own lung fields, nothing learned": uniform_lungs,
    }
    sigma, lines = SIGMA * size / 512, []
    for name, make in kinds.items():
        fitted = [(train, held_out, make(train, size, sigma)) for train, held_out in folds]
        lines += _scored("prior", name, fitted, size, bar)
    return lines


def observer_lines(
    studied: Sequence[Studied], folds: Sequence[Fold], size: int, seed: int, bar: Progress
) -> list[Line]:
    """Every evaluation metric of the local observer; adds `observer` to the lesions' values."""
    features = {
        one.case.case_id: local_features(one)
        for one in bar.track(studied, description="observer: features")
    }

    def predictor(observer: Callable[[Features], Features]) -> Callable[[Studied], Map]:
        return lambda one: predict_map(features[one.case.case_id], observer, one, size)

    fitted = []
    for train, held_out in bar.track(folds, description="observer: folds"):
        observer = fit_observer([(features[one.case.case_id], one) for one in train], seed)
        for one in held_out:
            observer_beats(features[one.case.case_id], observer, one)
        fitted.append((train, held_out, predictor(observer)))
    return _scored("observer", "learned local observer", fitted, size, bar)


def _scored(
    question: str,
    name: str,
    fitted: Sequence[tuple[list[Studied], list[Studied], Callable[[Studied], Map]]],
    size: int,
    bar: Progress,
) -> list[Line]:
    n = sum(len(held_out) for _, held_out, _ in fitted)
    task = bar.add_task(name, total=n)
    scores = score_prediction(fitted, size, lambda done: bar.advance(task, done))
    return [Line(question, metric, name, value, n) for metric, value in scores.items()]
