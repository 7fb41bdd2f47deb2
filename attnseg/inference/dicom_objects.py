"""DICOM Segmentation and secondary capture of a predicted radiograph, for PACS viewers.

Both are in the source's study, each in a series of its own, and reference the image they were
made from (without that a SEG is of no use), so its UIDs are in them. The patient's data are the
source's too, unless `anonymise` leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg import __version__
from attnseg.common.errors import ConfigError, DataError
from attnseg.imaging.case import Spacing

LABEL = "Nodule"
_NAME = "attnseg"
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# Type 2 attributes: the objects must have them, if only empty.
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_GRID = (
    *_NEEDED,
    "Rows",
    "Columns",
    "Modality",
    "FrameOfReferenceUID",
    "PatientOrientation",
    "SpecificCharacterSet",
)


@dataclass(frozen=True)
class Derived:
    """What both objects are made of.

    Attributes:
        header: the source's, without pixels.
        spacing: mm per pixel (row, column), None where unknown.
        key: of checkpoint and options; the same key gives the same UIDs, another one others.
        words: what the reader must know, as the series' description (64 characters count).
        anonymise: leave the patient's and the study's data out.
    """

    header: Any
    spacing: Spacing | None
    key: str
    words: str
    anonymise: bool = False

    def source(self) -> Any:
        """The header that the objects are derived from."""
        from pydicom.dataset import Dataset

        missing = [name for name in _NEEDED if not self.header.get(name)]
        if missing:
            raise DataError(
                f"no DICOM objects: its header lacks {', '.join(missing)}, which they reference"
            )
        source = Dataset()
        source.file_meta = self.header.file_meta
        if self.anonymise:
            for name in _GRID:
                if name in self.header:
                    source[name] = self.header[name]
        else:
            source.update(self.header)
            source.file_meta = self.header.file_meta
        for name in _TYPE_2:
            if name not in source:
                setattr(source, name, "")
        if source.PatientSex not in ("M", "F", "O"):  # what else there is, highdicom refuses
            source.PatientSex = ""
        return source

    def uid(self, what: str) -> Any:
        """A UID that the source, the key and the name fix."""
        from pydicom.uid import generate_uid

        entropy = [_NAME, what, self.key, str(self.header.get("SOPInstanceUID", ""))]
        return generate_uid(entropy_srcs=entropy)


def need_highdicom() -> Any:
    """The highdicom module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import highdicom
    except ImportError:
        raise ConfigError(
            "writing DICOM objects needs highdicom: install attnseg[dicom], or leave dicom_seg "
            "and dicom_capture out of save="
        ) from None
    return highdicom


def write_segmentation(path: Path, mask: npt.NDArray[np.uint8], derived: Derived) -> None:
    """Write a binary DICOM SEG of one segment: the mask (H, W) 0/1 on the source's grid.

    Raises:
        DataError: the source's header lacks what must be referenced.
    """
    highdicom = need_highdicom()
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=_NAME, family=codes.DCM.ArtificialIntelligence, version=__version__
    )
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=LABEL,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Nodule,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
    made = highdicom.seg.Segmentation(
        source_images=[derived.source()],
        pixel_array=mask,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=derived.uid("seg series"),
        series_number=9001,
        sop_instance_uid=derived.uid("seg"),
        instance_number=1,
        omit_empty_frames=False,
        content_label="NODULES",
        content_description=derived.words[:64],
        series_description=derived.words[:64],
        **_maker(),
    )
    _add_spacing(made, derived.spacing)
    made.save_as(path)


def write_capture(path: Path, picture: npt.NDArray[np.uint8], derived: Derived) -> None:
    """Write a picture (h, w, 3) uint8 as a secondary capture (RGB, not compressed).

    Raises:
        DataError: the source's header lacks what must be referenced.
    """
    highdicom = need_highdicom()
    source = derived.source()
    made = highdicom.sc.SCImage(
        pixel_array=np.ascontiguousarray(picture),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=highdicom.CoordinateSystemNames.PATIENT,
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=derived.uid("capture series"),
        series_number=9002,
        sop_instance_uid=derived.uid("capture"),
        instance_number=1,
        manufacturer=_NAME,
        patient_orientation=list(source.get("PatientOrientation") or ("L", "F")),
        series_description=derived.words[:64],
        **_study(source),
    )
    made.BurnedInAnnotation = "NO"  # nothing of the patient: numbers and scores of lesions
    made.DerivationDescription = derived.words
    made.SourceImageSequence = [_reference(source)]
    made.save_as(path)


def _maker() -> dict[str, str]:
    return {
        "manufacturer": _NAME,
        "manufacturer_model_name": _NAME,
        "software_versions": __version__,
        "device_serial_number": "none",
    }


def _study(source: Any) -> Mapping[str, Any]:
    """Patient and study as highdicom's SCImage takes them; blank values are None."""
    names = {
        "patient_id": "PatientID",
        "patient_name": "PatientName",
        "patient_birth_date": "PatientBirthDate",
        "patient_sex": "PatientSex",
        "accession_number": "AccessionNumber",
        "study_id": "StudyID",
        "study_date": "StudyDate",
        "study_time": "StudyTime",
        "referring_physician_name": "ReferringPhysicianName",
        "specific_character_set": "SpecificCharacterSet",
    }
    return {key: source.get(name) or None for key, name in names.items()}


def _reference(source: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item


def _add_spacing(made: Any, spacing: Spacing | None) -> None:
    """mm per pixel into the SEG: highdicom gives it to sources with a frame of reference alone."""
    from pydicom.dataset import Dataset

    shared = made.SharedFunctionalGroupsSequence[0]
    if spacing is None or "PixelMeasuresSequence" in shared:
        return
    item = Dataset()
    item.PixelSpacing = [f"{value:.10g}" for value in spacing]
    shared.PixelMeasuresSequence = [item]
