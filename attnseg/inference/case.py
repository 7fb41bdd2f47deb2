"""One case: read and prepared, then written with everything that was found in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg import __version__
from attnseg.common.errors import DataError
from attnseg.common.files import write_json
from attnseg.common.listing import readable
from attnseg.config import PredictConfig
from attnseg.imaging.radiograph import Radiograph, Window, read_radiograph
from attnseg.inference import files
from attnseg.inference.grid import Prepared, on_grid, prepare
from attnseg.inference.inputs import Item
from attnseg.inference.lesions import Lesion, find_lesions, top_score

BOTH, ALONE = "xray+drr", "xray_only"
_SAID = {BOTH: "X-ray and DRR", ALONE: "no DRR: the X-ray alone served both pathways"}
_OVERLAY, _CAPTURE, _LAYER, _LEAST = 900, 1024, 512, 512  # px of the longer side of a picture


@dataclass(frozen=True)
class Settings:
    """What is the same for every case.

    Attributes:
        config: of the command.
        size: side of the model's square, px.
        threshold: in [0, 1].
        window: how DICOM values are shown.
        has_attention: whether the model has a map to write.
        checkpoint: its run's id, or the ids of an ensemble.
        key: digest of weights and options.
    """

    config: PredictConfig
    size: int
    threshold: float
    window: Window
    has_attention: bool
    checkpoint: str
    key: str


@dataclass(frozen=True)
class OpenCase:
    """A case that has been read and waits for its maps."""

    item: Item
    radiograph: Radiograph
    prepared: Prepared
    key: str

    @property
    def pathways(self) -> str:
        """Whether a DRR took part."""
        return BOTH if self.item.drr is not None else ALONE

    @property
    def keys(self) -> list[str]:
        """A name for each window; that of a whole image is the case's own."""
        name = self.item.name
        n = len(self.prepared.windows)
        return [name] if n == 1 else [f"{name}#{index}" for index in range(n)]


def open_case(item: Item, settings: Settings, key: str) -> OpenCase:
    """Read an image and its DRR and prepare them.

    Raises:
        DataError: either cannot be used, or they do not fit together.
    """
    if item.problem is not None:
        raise DataError(item.problem)
    xray = read_radiograph(item.image, settings.window)
    drr = None if item.drr is None else read_radiograph(item.drr, settings.window)
    return prepared_case(item, xray, drr, settings, key)


def prepared_case(
    item: Item, xray: Radiograph, drr: Radiograph | None, settings: Settings, key: str = ""
) -> OpenCase:
    """Prepare an X-ray and its DRR, wherever they come from; without one the X-ray serves both.

    Raises:
        DataError: they do not fit together.
    """
    config = settings.config
    other = xray.pixels
    if drr is not None:
        shape = (xray.pixels.shape[0], xray.pixels.shape[1])
        other = on_grid(
            drr.pixels,
            drr.spacing,
            shape,
            xray.spacing,
            name=str(item.drr),
            resample=config.on_mismatch == "resample",
        )
    aspect = xray.aspect if config.square_pixels else 1.0
    prepared = prepare(
        xray.pixels,
        other,
        settings.size,
        aspect=aspect,
        tiles=config.tiles,
        overlap=config.tile_overlap,
    )
    return OpenCase(item, xray, prepared, key)


@dataclass(frozen=True)
class Prediction:
    """Everything the model said of a case, on the X-ray's own grid, (H, W) each.

    Attributes:
        probability: of a lesion, in [0, 1]; the mean where there are several passes.
        attention: in [0, 1]; None where the model has none.
        std: standard deviation of the probability over the passes (test-time augmentation, MC
            dropout, the members of an ensemble); None of a single pass.
        entropy: of the probability, in bits; None of a single pass.
        mask: 0/1; 1 where the probability is above the threshold.
        lesions: its components, the highest score first; px and mm from the centre of the top
            left pixel, down and to the right.
    """

    probability: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float32] | None
    std: npt.NDArray[np.float32] | None
    entropy: npt.NDArray[np.float32] | None
    mask: npt.NDArray[np.uint8]
    lesions: list[Lesion]


def interpret(case: OpenCase, maps: npt.NDArray[np.float32], settings: Settings) -> Prediction:
    """Mask and lesions from a case's maps (n, H, W), in the order of `batches.MAPS`."""
    attention = maps[1] if settings.has_attention else None
    std, entropy = (maps[2], maps[3]) if len(maps) > 2 else (None, None)
    mask, lesions = find_lesions(
        maps[0],
        settings.threshold,
        attention=attention,
        std=std,
        entropy=entropy,
        spacing=case.radiograph.spacing,
        min_px=settings.config.min_lesion_px,
    )
    return Prediction(maps[0], attention, std, entropy, mask, lesions)


def write_case(
    case: OpenCase, found: Prediction, settings: Settings, place: Path
) -> dict[str, Any]:
    """Write a case's folder, whole or not at all; returns its record (result.json)."""
    wanted = set(settings.config.save)
    with files.case_folder(place) as folder:
        words = _words(case, found, settings)
        notes = list(case.radiograph.notes)
        if "nifti" in wanted:
            _write_volumes(case, found, folder, words)
        if "png" in wanted:
            _write_pngs(found, folder, words)
        if "overlay" in wanted:
            picture = _picture(case, found, settings, _OVERLAY, words)
            files.write_png(folder / "overlay.png", picture, {"Description": words})
        if "page" in wanted:
            from attnseg.inference.pictures import write_layers

            write_layers(_scene(case, found, settings, _LAYER), folder / "layers")
        if case.radiograph.kind == "dicom" and wanted & {"dicom_seg", "dicom_capture"}:
            notes += _write_dicom(case, found, settings, folder, words)
        record = _record(case, found, settings, notes)
        write_json(folder / files.RESULT, record)
    return record


def _record(
    case: OpenCase, found: Prediction, settings: Settings, notes: list[str]
) -> dict[str, Any]:
    config, radiograph = settings.config, case.radiograph
    height, width = radiograph.pixels.shape
    lesions = [lesion.record() for lesion in found.lesions]
    record: dict[str, Any] = {"case": case.item.name}
    if not config.anonymise:
        record["image"] = readable(case.item.image)
        record["drr"] = None if case.item.drr is None else readable(case.item.drr)
    record |= {
        "pathways": case.pathways,
        "pathways_meaning": _SAID[case.pathways],
        "shape_px": [int(height), int(width)],
        "spacing_mm": None if radiograph.spacing is None else list(radiograph.spacing),
        "pixel_aspect": radiograph.aspect,
        "threshold": settings.threshold,
        "tiles": len(case.prepared.windows),
        "tta": config.tta,
        "mc_dropout": config.mc_dropout,
        "checkpoint": settings.checkpoint,
        "attnseg": __version__,
        "n_lesions": len(lesions),
        "top_score": top_score(lesions),
        "max_probability": float(found.probability.max()),
        "notes": notes,
        "lesions": lesions,
        "key": case.key,
    }
    if len(case.prepared.windows) > 1 and settings.has_attention:
        record["notes"].append("read in tiles: attention may be normalised within each tile")
    return record


def _words(case: OpenCase, found: Prediction, settings: Settings) -> str:
    """What every output says of itself; nothing of the patient."""
    count = len(found.lesions)
    return (
        f"attnseg {__version__}: {count} lesion{'' if count == 1 else 's'} above "
        f"{settings.threshold:.3g}; {_SAID[case.pathways]}; not for clinical use"
    )


def _write_volumes(case: OpenCase, found: Prediction, folder: Path, words: str) -> None:
    radiograph = case.radiograph
    maps: dict[str, npt.NDArray[Any] | None] = {
        "probability": found.probability,
        "mask": found.mask,
        "attention": found.attention,
        "uncertainty_std": found.std,
        "uncertainty_entropy": found.entropy,
    }
    note = f"{_SAID[case.pathways]}"
    for name, values in maps.items():
        if values is not None:
            place = folder / f"{name}.nii.gz"
            files.write_volume(place, values, radiograph.spacing, radiograph.geometry, note)


def _write_pngs(found: Prediction, folder: Path, words: str) -> None:
    said = {"Description": words}
    files.write_png(folder / "mask.png", found.mask * np.uint8(255), said)
    scaled = {
        "probability": found.probability,
        "attention": found.attention,
        "uncertainty_std": found.std,
        "uncertainty_entropy": found.entropy,
    }
    for name, values in scaled.items():
        if values is not None:
            more = said | {"Scale": "65535 is 1"}
            files.write_png(folder / f"{name}.png", files.sixteen_bits(values), more)


def _scene(case: OpenCase, found: Prediction, settings: Settings, side: int, least: int = 1) -> Any:
    from attnseg.inference.pictures import make_scene

    return make_scene(
        case.radiograph.pixels,
        found.mask,
        found.probability,
        found.attention,
        found.std,
        found.lesions,
        threshold=settings.threshold,
        aspect=case.radiograph.aspect,
        side=side,
        least=least,
    )


def _picture(
    case: OpenCase, found: Prediction, settings: Settings, side: int, words: str
) -> npt.NDArray[np.uint8]:
    from attnseg.inference.pictures import draw_scene

    return draw_scene(_scene(case, found, settings, side, _LEAST), words)


def _write_dicom(
    case: OpenCase, found: Prediction, settings: Settings, folder: Path, words: str
) -> list[str]:
    """The DICOM objects; a source whose header does not allow one has none, and a note says so."""
    from attnseg.inference.dicom_objects import Derived, write_capture, write_segmentation

    anonymise = settings.config.anonymise
    short = "attnseg nodules" + ("" if case.pathways == BOTH else ", X-ray alone (no DRR)")
    derived = Derived(case.radiograph.header, case.radiograph.spacing, case.key, short, anonymise)
    writers: dict[str, Callable[[Path], None]] = {
        "dicom_seg": lambda path: write_segmentation(path, found.mask, derived),
        "dicom_capture": lambda path: write_capture(
            path, _picture(case, found, settings, _CAPTURE, words), derived
        ),
    }
    names = {"dicom_seg": "segmentation.dcm", "dicom_capture": "capture.dcm"}
    notes: dict[str, None] = {}
    for option, write in writers.items():
        if option not in settings.config.save:
            continue
        name = names[option]
        try:
            write(folder / name)
        except DataError as error:
            notes[error.headline] = None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            (folder / name).unlink(missing_ok=True)  # highdicom refuses what no standard allows
            kind = type(error).__name__  # its own words could quote the patient's data
            notes[f"no {name}: its header has values that DICOM does not allow ({kind})"] = None
    return list(notes)
