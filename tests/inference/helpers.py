"""Radiographs in the forms that predict reads, written without the code under test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

DX = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation
PATIENT = "Roe^Richard"


def phantom_images(n: int, size: int = 64, seed: int = 5) -> list[Any]:
    """CaseImages of the phantom: X-ray, DRR and mask in memory."""
    from attnseg.data.sources.phantom import PhantomSource

    source = PhantomSource(size=size, n_cases=max(n, 3), seed=seed)
    return [source.load(case) for case in source.cases()[:n]]


def as_integers(pixels: npt.NDArray[Any], bits: int = 12) -> npt.NDArray[np.uint16]:
    """An image's values over the whole range of so many bits."""
    low, high = float(pixels.min()), float(pixels.max())
    scaled = (pixels.astype(np.float64) - low) / max(high - low, 1e-9)
    return np.rint(scaled * (2**bits - 1)).astype(np.uint16)


def write_dicom(
    path: Path,
    stored: npt.NDArray[np.uint16],
    *,
    monochrome: int = 2,
    bits: int = 12,
    spacing: tuple[float, float] | None = (0.7, 0.7),
    **attributes: Any,
) -> Path:
    """Write a radiograph (H, W) as an uncompressed DICOM with a patient's data in its header.

    For MONOCHROME1 the stored values are the inverted ones: what is shown is the same picture.
    Further attributes go into the header by keyword, None removes one.
    """
    if monochrome == 1:
        stored = (2**bits - 1) - stored
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DX
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID = PATIENT, "MRN-4711"
    dataset.PatientBirthDate, dataset.AccessionNumber = "19010203", "ACC-99"
    dataset.Modality = "DX"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = f"MONOCHROME{monochrome}"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = 0
    if spacing is not None:
        dataset.ImagerPixelSpacing = list(spacing)
    dataset.PixelData = np.ascontiguousarray(stored, dtype="<u2").tobytes()
    for name, value in attributes.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def read_seg_by_hand(path: Path) -> npt.NDArray[np.uint8]:
    """The first frame of a binary DICOM SEG (H, W), unpacked bit by bit as PS3.5 8.1.1 says."""
    dataset = pydicom.dcmread(path)
    assert dataset.SegmentationType == "BINARY" and dataset.BitsAllocated == 1
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    count = dataset.Rows * dataset.Columns
    return bits[:count].reshape(dataset.Rows, dataset.Columns)
