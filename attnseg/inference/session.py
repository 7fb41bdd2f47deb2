"""All images of a command: read, predicted in batches, written one by one, what is done skipped.

In memory there are never more cases than a batch holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attnseg import __version__
from attnseg.common.errors import DataError
from attnseg.common.listing import readable
from attnseg.config import PredictConfig
from attnseg.imaging.radiograph import Window
from attnseg.inference.batches import BatchRunner
from attnseg.inference.case import OpenCase, Settings, interpret, open_case, write_case
from attnseg.inference.files import read_result, remove_leftovers
from attnseg.inference.grid import Canvas
from attnseg.inference.inputs import Item
from attnseg.inference.predictor import grid_of
from attnseg.inference.summary import CASES
from attnseg.runs.archive import digest_of_weights
from attnseg.runs.checkpoints import LoadedCheckpoint

_MOST_PIXELS = 64_000_000  # of the images that wait for one batch
# Options that change no case's folder.
_OUTSIDE = {"checkpoint", "images", "drr", "out", "accelerator", "batch_size", "resume"}
_OUTSIDE |= {"page_cases"}


@dataclass
class Outcome:
    """How it went.

    Attributes:
        done: names of the cases that have results, those of an earlier command included.
        skipped: how many of them were there already.
        problems: case name to why it cannot be used.
    """

    done: list[str] = field(default_factory=list)
    skipped: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def settings_of(
    config: PredictConfig, members: Sequence[LoadedCheckpoint], threshold: float, *, attention: bool
) -> Settings:
    """What is the same for every case."""
    options = config.model_dump(mode="json", exclude=_OUTSIDE)
    options["save"] = sorted(set(config.save))
    window = window_of(config, members)
    what = json.dumps([__version__, options, threshold, window], sort_keys=True)
    digest = hashlib.sha256(what.encode())
    for member in members:
        digest.update(digest_of_weights(member.weights).encode())
    return Settings(
        config=config,
        size=grid_of(members),
        threshold=threshold,
        window=window,
        has_attention=attention,
        checkpoint="+".join(member.identity for member in members),
        key=digest.hexdigest()[:32],
    )


def window_of(config: PredictConfig, members: Sequence[LoadedCheckpoint]) -> Window:
    """How DICOM values are shown: as the checkpoint's training saw them where that is known."""
    if config.window != "auto":
        return config.window
    source = members[0].data_record.get("source", {})
    return "none" if isinstance(source, dict) and source.get("n_dicom") else "header"


def case_key(item: Item, settings: Settings) -> str:
    """What fixes a case's results: weights, options, and the files as they are now."""
    digest = hashlib.sha256(settings.key.encode())
    for path in (item.image, item.drr):
        try:
            stat = path.stat() if path is not None else None
        except OSError:
            stat = None
        said = (str(path and path.resolve()), stat and (stat.st_size, stat.st_mtime_ns))
        digest.update(repr(said).encode())
    return digest.hexdigest()[:32]


def predict_items(
    items: Sequence[Item],
    settings: Settings,
    runner: BatchRunner,
    progress: Callable[[int], object] = lambda count: None,
) -> Outcome:
    """Predict every item; one that cannot be used stops no other.

    Args:
        items: what to predict.
        settings: how.
        runner: the model.
        progress: called with the number of items that are settled.

    Raises:
        CheckpointError: the model's maps are not finite.
        ConfigError: the memory does not suffice for one image.
        OSError: a result cannot be written (those written before stay).
    """
    cases = Path(settings.config.out) / CASES
    cases.mkdir(parents=True, exist_ok=True)
    remove_leftovers(cases)
    outcome = Outcome()
    waiting: list[OpenCase] = []
    for item in items:
        key = case_key(item, settings)
        if settings.config.resume and is_done(cases / item.name, key):
            outcome.skipped += 1
            outcome.done.append(item.name)
            progress(1)
            continue
        try:
            waiting.append(open_case(item, settings, key))
        except (DataError, MemoryError) as error:
            outcome.problems[item.name] = _told(error, item)
            progress(1)
            continue
        if _full(waiting, runner):
            _finish(waiting, settings, runner, outcome, cases, progress)
    _finish(waiting, settings, runner, outcome, cases, progress)
    return outcome


def _told(error: DataError | MemoryError, item: Item) -> str:
    if isinstance(error, DataError):
        return " ".join([error.headline, *error.problems])
    return f"{readable(item.image)}: does not fit the memory that is free; scale it down"


def is_done(folder: Path, key: str) -> bool:
    """Whether a case's folder is whole and of the same checkpoint, options and files."""
    record = read_result(folder)
    return record is not None and record.get("key") == key


def _full(waiting: Sequence[OpenCase], runner: BatchRunner) -> bool:
    """Whether the cases that wait fill a batch, or their images much memory."""
    windows = sum(len(case.prepared.windows) for case in waiting)
    pixels = sum(case.radiograph.pixels.size for case in waiting)
    return windows >= runner.batch_size or pixels >= _MOST_PIXELS


def _finish(
    waiting: list[OpenCase],
    settings: Settings,
    runner: BatchRunner,
    outcome: Outcome,
    cases: Path,
    progress: Callable[[int], object],
) -> None:
    """Predict and write the cases that wait, and let them go."""
    for case, canvas in zip(waiting, canvases(waiting, runner), strict=True):
        try:
            found = interpret(case, canvas.maps(), settings)
            write_case(case, found, settings, cases / case.item.name)
            outcome.done.append(case.item.name)
        except MemoryError as error:
            outcome.problems[case.item.name] = _told(error, case.item)
        progress(1)
    waiting.clear()


def canvases(waiting: Sequence[OpenCase], runner: BatchRunner) -> Iterator[Canvas]:
    """The maps of each case in turn; windows of several cases share a batch."""
    queue = [(case, index, key) for case in waiting for index, key in enumerate(case.keys)]
    canvas: Canvas | None = None
    start = 0
    while start < len(queue):
        part = queue[start : start + max(1, runner.batch_size)]
        maps = runner(
            [case.prepared.inputs(index) for case, index, _ in part], [key for *_, key in part]
        )
        for (case, index, _), made in zip(part, maps, strict=True):
            if canvas is None:
                canvas = Canvas(case.prepared, len(made))
            canvas.add(index, made)
            if index == len(case.keys) - 1:
                yield canvas
                canvas = None
        start += len(part)
