"""`attnseg predict`: images to masks, attention, lesions, DICOM objects and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnseg.commands.help import CHECKPOINT_OVERRIDES, command_help, show, wants_help
from attnseg.common.errors import FAILED, DataError
from attnseg.config import PredictConfig
from attnseg.config.compose import compose_checked

if TYPE_CHECKING:
    from attnseg.inference.case import Settings
    from attnseg.inference.inputs import Item
    from attnseg.inference.session import Outcome
    from attnseg.runs.checkpoints import LoadedCheckpoint

OVERRIDES = (
    *CHECKPOINT_OVERRIDES,
    ("images=PATH", "a file, a folder or a glob: DICOM (CR, DX, RG), PNG, NIfTI, MHA"),
    ("drr=PATH", "their DRRs, paired by name; without them the X-ray serves both pathways"),
    ("out=FOLDER", "where results go; what is done there is skipped"),
    ("threshold=0.5", "default: the one chosen on the checkpoint's validation split"),
    ("save=[nifti,dicom_seg,page]", "what is written; also png, overlay, dicom_capture"),
    ("tta=flip_scale mc_dropout=10", "mean over views and draws; uncertainty maps and scores"),
    ("tiles=2", "read at twice the model's size, in overlapping tiles"),
    ("window=none", "DICOM: stored values rather than the header's window"),
    ("anonymise=true", "no names, paths or patient data in any output"),
)


def main(argv: Sequence[str]) -> int:
    """Write results image by image. Returns 0, or 1 where some images could not be used."""
    arguments = list(argv)
    if wants_help(arguments):
        purpose = "images to masks, attention, lesions, DICOM objects and a page"
        return show(command_help("predict", purpose, (), OVERRIDES))
    config = compose_checked("predict", arguments, PredictConfig)

    from attnseg.common.files import make_folder
    from attnseg.common.memory import ready_device
    from attnseg.inference.batches import BatchRunner
    from attnseg.inference.inputs import find_items
    from attnseg.inference.predictor import PassOptions, predictor_of, threshold_of
    from attnseg.inference.session import settings_of
    from attnseg.runs.checkpoints import load_checkpoints

    members = load_checkpoints(config.checkpoint, trust=config.trust)
    predictor = predictor_of(members, PassOptions(config.tta, config.mc_dropout, config.seed))
    device = ready_device(config.accelerator)
    out = Path(config.out)
    items = find_items(config.images, config.drr, out, anonymise=config.anonymise)
    _refuse_missing_extras(items, config)
    threshold = threshold_of(members, config.threshold)
    settings = settings_of(config, members, threshold, attention=predictor.has_attention)
    make_folder(out, "out")
    runner = BatchRunner(predictor, device, config.batch_size)
    try:
        outcome = _predict(items, settings, runner)
        _write_all(items, outcome, settings, members)
    except OSError as error:
        print(
            f"attnseg predict: {error.filename or out} could not be written ({error.strerror}); "
            "what was finished before is whole. Make room, and give the same command again"
        )
        return FAILED
    return _report(items, outcome, settings)


def _refuse_missing_extras(items: Sequence[Item], config: PredictConfig) -> None:
    """Say before the work that DICOM needs an extra which is not installed."""
    from attnseg.imaging.radiograph import kind_of, need_pydicom
    from attnseg.inference.dicom_objects import need_highdicom

    if any(kind_of(item.image) == "dicom" for item in items if item.image.is_file()):
        need_pydicom()
        if {"dicom_seg", "dicom_capture"} & set(config.save):
            need_highdicom()


def _predict(items: Sequence[Item], settings: Settings, runner: Any) -> Outcome:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from attnseg.inference.session import predict_items

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("predicting", total=len(items))
        return predict_items(items, settings, runner, lambda n: bar.advance(task, n))


def _write_all(
    items: Sequence[Item],
    outcome: Outcome,
    settings: Settings,
    members: Sequence[LoadedCheckpoint],
) -> None:
    """The tables, the page and problems.json."""
    from attnseg.inference.page import write_predictions_page
    from attnseg.inference.summary import write_problems, write_summaries

    config, out = settings.config, Path(settings.config.out)
    write_problems(out, outcome.problems, anonymise=config.anonymise)
    if not outcome.done:
        return
    done = set(outcome.done)
    names = [item.name for item in items if item.name in done]
    write_summaries(out, names, _about(settings, members))
    if "page" in config.save:
        write_predictions_page(out, names, n_most=config.page_cases)


def _about(settings: Settings, members: Sequence[LoadedCheckpoint]) -> dict[str, Any]:
    """What lesions.json says of the whole: how it was made."""
    from attnseg import __version__

    config = settings.config
    place = {} if config.anonymise else {"checkpoints": [str(member.path) for member in members]}
    return {
        "attnseg": __version__,
        **place,
        "checkpoint": settings.checkpoint,
        "threshold": settings.threshold,
        "size_px": settings.size,
        "window": settings.window,
        "tta": config.tta,
        "mc_dropout": config.mc_dropout,
        "seed": config.seed,
        "tiles": config.tiles,
        "clinical_use": "no: a research tool",
    }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _report(items: Sequence[Item], outcome: Outcome, settings: Settings) -> int:
    """Say what was done, what could not be, and where the results are."""
    from attnseg.inference.summary import grouped, records_of

    out = Path(settings.config.out)
    lines = grouped(outcome.problems, {item.name: item.image for item in items})
    if not outcome.done:
        raise DataError(f"none of the {len(items)} images could be used:", lines)
    lesions = alone = 0
    for record in records_of(out, outcome.done):
        lesions += record["n_lesions"]
        alone += record["pathways"] == "xray_only"
    skipped = f" ({outcome.skipped} were there already)" if outcome.skipped else ""
    images, found = _counted(len(outcome.done), "image"), _counted(lesions, "lesion")
    print(f"{images}{skipped}, {found} above {settings.threshold:.3g}")
    if alone:
        print(f"note: {alone} without a DRR: the X-ray alone served both pathways")
    if lines:
        print(f"{_counted(len(outcome.problems), 'image')} could not be used:")
        print("\n".join(f"  - {line}" for line in lines))
    print(f"results: {out}")
    if "page" in settings.config.save:
        print(f"page:    {out / 'index.html'}")
    return FAILED if outcome.problems else 0
