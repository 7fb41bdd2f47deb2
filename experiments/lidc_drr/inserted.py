"""How many nodules of known place, put into held-out images, does a network find?

    python experiments/lidc_drr/inserted.py --root DRRS RUN [RUN...] [--split train --every 4]

The real lesions of a validation split are few: two networks must differ by 0.02 Dice before they
can be told apart. Synthetic nodules of the contrast that real ones have can be had by the thousand,
in the same images. Every network gets the same pictures of 512 px. Printed are the share found at
1, 2, 4 and 8 false positives an image, the mean of the four, its paired difference to the first
network's (95 % bootstrap interval over patients), and the share of the real lesions of that size at
the same thresholds. A false positive is a local maximum of the probability away from every lesion,
real or not; a lesion's score is its highest pixel.

What is measured is what `data.synthetic` trains for: read it beside the real lesions, not instead.
`--split train` shows the images that trained the network instead: what it knows by heart.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from attnseg.common.errors import UserError
from attnseg.config import AugmentConfig, PatchConfig, SplitConfig, SyntheticConfig, TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.data.dataset import CaseDataset, TrainDataset
from attnseg.inference.predictor import Predictor, predictor_of
from attnseg.metrics.lesions import EIGHT
from attnseg.reports.compare.statistics import bootstrap_interval
from attnseg.runs.checkpoints import LoadedCheckpoint, load_checkpoints

SPLITS = ("val", "test", "train")
RATES = (1, 2, 4, 8)
SIZE = 512  # px
_REACH = 10  # px: nearer to a lesion, a maximum is no false positive

Mask = npt.NDArray[np.bool_]


@dataclass
class Findings:
    """Scores of one network over all images."""

    n_images: int = 0
    false: list[float] = field(default_factory=list)
    inserted: list[float] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)  # one an inserted nodule
    real: list[float] = field(default_factory=list)

    def hits(self, rate: int) -> tuple[npt.NDArray[np.float64], float]:
        """Whether each inserted nodule, and what share of the real lesions, is found at a rate."""
        ordered = np.sort(self.false)[::-1]
        allowed = rate * self.n_images
        threshold = ordered[allowed] if allowed < len(ordered) else 0.0
        real = float(np.mean(np.array(self.real) > threshold)) if self.real else math.nan
        return (np.array(self.inserted) > threshold).astype(float), real


def lesion_scores(probability: npt.NDArray[Any], mask: Mask, smallest_px: float) -> list[float]:
    """The highest probability in each component of at least that diameter."""
    labels, count = ndimage.label(mask, structure=EIGHT)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    least = math.pi / 4 * smallest_px**2
    return [float(probability[labels == i].max()) for i in range(1, count + 1) if areas[i] >= least]


def false_scores(probability: npt.NDArray[Any], lesions: Mask) -> list[float]:
    """The local maxima of a probability map (H, W) away from all lesions."""
    peaks = ndimage.maximum_filter(probability, 2 * _REACH - 1) == probability
    near = ndimage.binary_dilation(lesions, iterations=_REACH) if lesions.any() else lesions
    return [float(value) for value in probability[peaks & ~near] if value > 0.0]


def images(
    data: AttnSegDataModule, options: argparse.Namespace
) -> Iterator[tuple[str, dict[str, Any], Mask, Mask]]:
    """Patient, sample, inserted nodules and real lesions (H, W each) of every image and draw."""
    asked = {"per_image": options.per_image, "diameter_px": options.diameter, "easier": 1.0}
    if options.solid_blur is not None:
        kind = SyntheticConfig(blur_px=(options.solid_blur, options.solid_blur))
    else:
        words = ["experiment=lidc_drr", "data.root=."]
        kind = compose_checked("train", words, TrainConfig).data.synthetic
    nodules = kind.model_copy(update=asked)
    cases = data.cases(options.split)[:: options.every]
    plain = CaseDataset(cases, data.cache)
    filled = TrainDataset(
        cases,
        data.cache,
        patch=PatchConfig(),
        augment=AugmentConfig(enabled=False),
        seed=options.seed,
        synthetic=nodules,
    )
    turns = [(draw, index) for draw in range(options.draws) for index in range(len(cases))]
    for draw, index in track(turns, "looking", transient=True, console=Console(stderr=True)):
        real = plain[index]["mask"][0].numpy() > 0
        sample = filled[draw, index]
        yield cases[index].patient_id, sample, (sample["mask"][0].numpy() > 0) & ~real, real


def measure(predictor: Predictor, data: AttnSegDataModule, options: argparse.Namespace) -> Findings:
    """Show a network every image."""
    found = Findings()
    for patient, sample, inserted, real in images(data, options):
        with torch.inference_mode():
            maps = predictor(sample["xray"][None], sample["drr"][None], [patient])
        probability = maps.probability[0, 0].numpy()
        found.n_images += 1
        found.false += false_scores(probability, inserted | real)
        scores = lesion_scores(probability, inserted, 0.0)
        found.inserted += scores
        found.patients += [patient] * len(scores)
        found.real += lesion_scores(probability, real, options.diameter[0])
    return found


def refuse_other_patients(
    members: Sequence[LoadedCheckpoint], spec: str, data: AttnSegDataModule, split: str
) -> None:
    """Refuse networks that were trained on a patient of the images; for `train`, that were not."""
    patients = {case.patient_id for case in data.cases(split)}  # type: ignore[arg-type]
    for member in members:
        trained = {patient for patient in patients if patient in member.trained}
        wrong = patients - trained if split == "train" else trained
        if wrong:
            did = "did not train" if split == "train" else "trained"
            raise SystemExit(f"{spec}: {len(wrong)} of the {len(patients)} patients {did} it")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoints", nargs="+", help="runs, checkpoints, files of weights; A,B: an ensemble"
    )
    parser.add_argument("--root", help="data.root, where the data is in a folder")
    parser.add_argument("--split", choices=SPLITS, default="val", help="of the first network's")
    parser.add_argument("--every", type=int, default=1, help="take every n-th case")
    parser.add_argument("--draws", type=int, default=3, help="times that every image is filled")
    parser.add_argument("--per-image", type=float, default=8.0, help="nodules, on average")
    parser.add_argument("--diameter", type=float, nargs=2, default=(14.0, 36.0), help="px at 512")
    parser.add_argument(
        "--solid-blur", type=float, help="px: solid nodules, blurred so, instead of lidc_drr's"
    )
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    if options.every < 1:
        parser.error("--every counts from 1")
    rates = " | ".join(f"at {rate}" for rate in RATES)
    print(f"| | nodules | {rates} | mean | against the first | real lesions, mean (lesions) |")
    print("|---" * (6 + len(RATES)) + "|")
    first: Findings | None = None
    division: SplitConfig | None = None
    for spec in options.checkpoints:
        is_one = Path(spec).exists() or "," not in spec  # Hydra's folders may hold a comma
        members = load_checkpoints(spec if is_one else spec.split(","))
        config = members[0].config
        division = division or config.data.split
        changed = {"size": SIZE, "split": division}
        changed |= {"root": options.root} if options.root else {}
        section = config.data.model_copy(update=changed)
        data = AttnSegDataModule(config.model_copy(update={"data": section}))
        refuse_other_patients(members, spec, data, options.split)
        data.setup()
        found = measure(predictor_of(members).eval(), data, options)
        first = first or found
        print(_row(spec, found, first), flush=True)


def _row(name: str, found: Findings, first: Findings) -> str:
    hits = [found.hits(rate) for rate in RATES]
    shares = " | ".join(f"{inserted.mean():.3f}" for inserted, _ in hits)
    mean = np.mean([inserted for inserted, _ in hits], axis=0)
    real = float(np.mean([share for _, share in hits]))
    against = ""
    if found is not first:
        gained = mean - np.mean([first.hits(rate)[0] for rate in RATES], axis=0)
        low, high = bootstrap_interval(gained, found.patients, n_resamples=2000)
        against = f"{gained.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
    cells = [name, str(len(mean)), shares, f"{mean.mean():.3f}", against]
    return f"| {' | '.join(cells)} | {real:.3f} ({len(found.real)}) |"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
