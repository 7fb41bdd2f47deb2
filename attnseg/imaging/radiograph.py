"""One radiograph as hospitals and researchers have it: DICOM (CR, DX, RG, ...), PNG, NIfTI, MHA.

Beside the pixels comes what is needed to give findings back on the same grid: spacing, the shape
of a pixel, the geometry of a NIfTI or MHA, the header of a DICOM. What is no radiograph (a CT
slice, a cine, a colour picture) is refused in words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from attnseg.common.errors import ConfigError, DataError
from attnseg.imaging.case import Spacing
from attnseg.imaging.images import read_header, read_image
from attnseg.imaging.itk import refuse_too_large

Kind = Literal["dicom", "volume", "picture"]
Window = Literal["header", "none"]

VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
DICOMS = (".dcm", ".dicom", ".dic", ".ima")
# What is taken for a radiograph: computed, digital, film, fluoroscopic spot, secondary capture.
_MODALITIES = ("CR", "DX", "RG", "RF", "XA", "OT", "")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_SQUARE = 0.01  # pixels whose sides differ by less are square


@dataclass(frozen=True)
class Geometry:
    """Where a NIfTI or MHA image lies, as SimpleITK says it (x first)."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


@dataclass(frozen=True)
class Radiograph:
    """A decoded radiograph.

    Attributes:
        pixels: (H, W), bright where the radiation was absorbed.
        kind: dicom, volume (NIfTI, MHA, NRRD) or picture (PNG, ...).
        spacing: mm per pixel (row, column), None where the file does not say.
        aspect: height of a pixel by its width; 1.0 for square ones and where nothing is said.
        geometry: of a volume.
        header: of a DICOM: a pydicom Dataset without pixels.
        notes: what a reader of the result should know; no patient data.
    """

    pixels: npt.NDArray[Any]
    kind: Kind
    spacing: Spacing | None = None
    aspect: float = 1.0
    geometry: Geometry | None = None
    header: Any | None = None
    notes: tuple[str, ...] = ()


def kind_of(path: Path) -> Kind | None:
    """What a file is, by its ending or, for a DICOM of any name, its magic; None: no image."""
    name = path.name.lower()
    if name.startswith(".") or name == "dicomdir":
        return None
    for kind, endings in (("volume", VOLUMES), ("picture", PICTURES), ("dicom", DICOMS)):
        if name.endswith(endings):
            return kind  # type: ignore[return-value]
    try:
        with path.open("rb") as stream:
            stream.seek(128)
            return "dicom" if stream.read(4) == b"DICM" else None
    except OSError:
        return None


def read_radiograph(path: Path, window: Window = "header") -> Radiograph:
    """Read one radiograph.

    Args:
        path: the file.
        window: DICOM: `header` shows the values through the header's VOI LUT or window, as a
            viewer does, and makes padding black; `none` gives them as `read_image` does, which
            is how `data=manifest` trains on DICOM. A window that clips nothing changes nothing
            for the model, whose input is standardised.

    Raises:
        DataError: as `read_image`, or the file is no radiograph, or its spacing is not above 0.
        ConfigError: a DICOM, and pydicom is not installed.
    """
    kind = kind_of(path) if path.is_file() else "picture"
    if kind == "dicom":
        return _read_dicom(path, window)
    if kind == "volume":
        geometry = _geometry(path)
        picture = read_image(path)
        spacing = picture.spacing
        return Radiograph(picture.pixels, "volume", spacing, aspect_of(spacing), geometry)
    picture = read_image(path)
    return Radiograph(picture.pixels, "picture", picture.spacing)


def need_pydicom() -> Any:
    """The pydicom module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise ConfigError(
            "reading DICOM radiographs needs pydicom: install attnseg[dicom]"
        ) from None
    return pydicom


def _geometry(path: Path) -> Geometry:
    reader = read_header(path)
    spacing = reader.GetSpacing()
    if min(spacing) <= 0:
        raise DataError(f"{path}: its spacing is {spacing[0]:g}; mend its header")
    return Geometry(tuple(spacing), tuple(reader.GetOrigin()), tuple(reader.GetDirection()))


def _read_dicom(path: Path, window: Window) -> Radiograph:
    pydicom = need_pydicom()
    try:
        dataset = pydicom.dcmread(path)
        _refuse_other_things(dataset, path)
        spacing, aspect = _dicom_spacing(dataset, path)
        refuse_too_large(path, (int(dataset.Columns), int(dataset.Rows)))
        _refuse_truncated(dataset, path)
        notes = _notes(dataset)
        if window == "header" and _has_display(dataset):
            pixels, more = _displayed(dataset, path)
            notes += more
        else:
            pixels = read_image(path).pixels
    except (DataError, ConfigError):
        raise
    except Exception as error:  # a broken header can raise anything
        raise DataError(  # the error's own words could quote a header, so patient data
            f"{path}: cannot be read as DICOM; it is truncated or damaged ({type(error).__name__})"
        ) from None
    if "PixelData" in dataset:
        del dataset.PixelData
    return Radiograph(pixels, "dicom", spacing, aspect, header=dataset, notes=tuple(notes))


def _refuse_other_things(dataset: Any, path: Path) -> None:
    """Raise DataError for what is not one grey radiograph."""
    modality = str(dataset.get("Modality", "") or "")
    if modality == "CT":
        raise DataError(
            f"{path}: a CT slice, not a radiograph; project the series with `attnseg drr`"
        )
    if modality not in _MODALITIES:
        known = ", ".join(_MODALITIES[:-1])
        raise DataError(f"{path}: modality {modality}, but a radiograph is needed ({known})")
    if "PixelData" not in dataset:
        raise DataError(f"{path}: a DICOM object without an image")
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    if int(dataset.get("SamplesPerPixel", 1)) != 1 or not photometric.startswith("MONOCHROME"):
        raise DataError(
            f"{path}: a colour image (photometric interpretation {photometric}), but a grey one "
            "is needed (MONOCHROME1 or MONOCHROME2)"
        )
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames != 1:
        raise DataError(f"{path}: {frames} frames, but a single image is needed; export one frame")


def _refuse_truncated(dataset: Any, path: Path) -> None:
    """An uncompressed image must have all its bytes: ITK would fill the rest in."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.is_deflated:
        return
    needed = int(dataset.Rows) * int(dataset.Columns) * (int(dataset.BitsAllocated) // 8)
    if len(dataset.PixelData) < needed:
        raise DataError(
            f"{path}: truncated: it holds {len(dataset.PixelData)} of {needed} bytes of pixels"
        )


def _dicom_spacing(dataset: Any, path: Path) -> tuple[Spacing | None, float]:
    """mm per pixel (row, column), and height by width of a pixel."""
    for name in _SPACINGS:
        if not dataset.get(name):
            continue
        row, column = (float(value) for value in dataset.get(name))
        if not (math.isfinite(row) and math.isfinite(column) and row > 0 and column > 0):
            raise DataError(f"{path}: {name} is {row:g} x {column:g} mm; it must be above 0")
        return (row, column), aspect_of((row, column))
    if dataset.get("PixelAspectRatio"):
        height, width = (int(value) for value in dataset.PixelAspectRatio)
        if height <= 0 or width <= 0:
            raise DataError(f"{path}: PixelAspectRatio is {height}:{width}; it must be above 0")
        return None, aspect_of((height, width))
    return None, 1.0


def aspect_of(spacing: Spacing | None) -> float:
    """Height of a pixel by its width; 1.0 where they are about equal, or nothing is known."""
    if spacing is None or abs(spacing[0] / spacing[1] - 1) < _SQUARE:
        return 1.0
    return spacing[0] / spacing[1]


def _notes(dataset: Any) -> list[str]:
    notes = []
    if str(dataset.get("PresentationIntentType", "")) == "FOR PROCESSING":
        notes.append("a raw detector image (FOR PROCESSING): send the one FOR PRESENTATION")
    part = str(dataset.get("BodyPartExamined", "") or "").strip()
    if part and not any(word in part.upper() for word in ("CHEST", "THORAX", "LUNG", "RIB")):
        notes.append("its header names another body part than the chest, which the model knows")
    view = str(dataset.get("ViewPosition", "") or "").strip()
    if view and view not in ("PA", "AP"):
        notes.append("its header names another view than PA or AP, which the model knows")
    if not any(dataset.get(name) for name in ("PixelSpacing", "NominalScannedPixelSpacing")) and (
        dataset.get("ImagerPixelSpacing")
    ):
        notes.append("mm are at the detector (ImagerPixelSpacing), not corrected for magnification")
    return notes


def _has_display(dataset: Any) -> bool:
    """Whether the header changes how stored values are shown, beyond a linear rescale."""
    names = ("WindowCenter", "VOILUTSequence", "ModalityLUTSequence", "PixelPaddingValue")
    return any(dataset.get(name) not in (None, "") for name in names)


def _displayed(dataset: Any, path: Path) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Values as a viewer shows them, bright where absorbed; (H, W) float32, and notes."""
    from pydicom.pixels import apply_voi_lut

    values, stored = _modality_values(dataset, path)
    notes: list[str] = []
    try:
        shown = np.asarray(apply_voi_lut(values, dataset), dtype=np.float32)
    except (ValueError, TypeError, AttributeError, IndexError):
        notes.append("its window or VOI LUT cannot be used; the values were taken as they are")
        shown = values.astype(np.float32)
    padding = _padding(dataset, stored)
    inside = shown[~padding] if padding is not None and not padding.all() else shown
    low, high = inside.min(), inside.max()
    if dataset.PhotometricInterpretation.strip() == "MONOCHROME1":
        shown = low + high - shown
    if padding is not None:
        shown[padding] = low  # black, as outside the collimator
    return shown, notes


def _modality_values(dataset: Any, path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Values after the modality LUT or rescale, and the stored ones where those are known.

    What pydicom has no decoder for here (JPEG lossless, JPEG 2000) is decoded by ITK's GDCM,
    which rescales and inverts MONOCHROME1 itself; the inversion is taken back.
    """
    from pydicom.pixels import apply_modality_lut

    try:
        stored = dataset.pixel_array
        return apply_modality_lut(stored, dataset), stored
    except (NotImplementedError, RuntimeError, AttributeError, ValueError):
        values = read_image(path).pixels.astype(np.float64)
    if dataset.PhotometricInterpretation.strip() == "MONOCHROME1":
        slope = float(dataset.get("RescaleSlope", 1) or 1)
        intercept = float(dataset.get("RescaleIntercept", 0) or 0)
        top = 2 ** int(dataset.BitsStored) - 1 if int(dataset.PixelRepresentation) == 0 else -1
        values = slope * (top - (values - intercept) / slope) + intercept
    return values, None


def _padding(dataset: Any, stored: npt.NDArray[Any] | None) -> npt.NDArray[np.bool_] | None:
    """The pixels that PixelPaddingValue says are none."""
    if stored is None or dataset.get("PixelPaddingValue") is None:
        return None
    first = int(dataset.PixelPaddingValue)
    last = int(dataset.get("PixelPaddingRangeLimit", first))
    mask: npt.NDArray[np.bool_] = (stored >= min(first, last)) & (stored <= max(first, last))
    return mask if mask.any() else None
