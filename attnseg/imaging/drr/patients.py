"""Whose a CT is, without saying who: nothing of a DICOM header goes into an output.

A DICOM patient id becomes a keyed hash. The key lies outside the output folder and stays on the
machine, so that a shared output cannot be searched through by trying ids, while the same patient
has the same pseudonym in every folder that is made with the key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.files import user_path
from attnseg.config.drr import DrrConfig
from attnseg.imaging.drr.dicom import dicom_files, is_dicom
from attnseg.imaging.itk import itk_name

_NAME, _ID = "0010|0010", "0010|0020"
_TELLING = 3  # letters of a name that give somebody away


@dataclass(frozen=True)
class Naming:
    """How cases and patients are called in the outputs.

    Attributes:
        key: of the pseudonyms; None where headers may be shown.
        pattern: finds the patient in a case's name.
    """

    key: bytes | None
    pattern: re.Pattern[str] | None

    def names(self, case: str, ct: Path) -> tuple[str, str]:
        """(case, patient) as they are written.

        Raises:
            DataError: the pattern finds no patient.
        """
        told_id, told_name = _header(ct)
        patient = case
        if self.pattern is not None:
            found = self.pattern.search(case)
            if found is None:
                raise DataError(f"{case}: patient_pattern finds no patient in this name")
            patient = found[1] if found.lastindex else found[0]
        elif told_id:
            patient = told_id if self.key is None else self._hashed("patient", told_id)
        if self.key is not None:
            words = [told_id, *re.split(r"[\^,;=\s]+", told_name)]
            telling = [word.lower() for word in words if len(word) >= _TELLING]
            if any(word in case.lower() for word in telling):  # folders named after patients
                hidden = self._hashed("case", case)
                patient = hidden if patient == case else patient
                case = hidden
            if any(word in patient.lower() for word in telling):
                patient = self._hashed("patient", patient)
        return case, patient

    def _hashed(self, kind: str, word: str) -> str:
        assert self.key is not None
        return f"{kind}-{hmac.new(self.key, word.encode(), hashlib.sha256).hexdigest()[:12]}"


def naming(config: DrrConfig) -> Naming:
    """What the configuration says about names.

    Raises:
        ConfigError: the key cannot be read or made.
    """
    pattern = re.compile(config.patient_pattern) if config.patient_pattern else None
    if config.patient == "header":
        return Naming(None, pattern)
    return Naming(_read_key(config.patient_key), pattern)


def _read_key(configured: str | None) -> bytes:
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    path = user_path(configured or f"{base}/attnseg/pseudonym.key")
    try:
        if configured is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_key(path)
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"the key of the pseudonyms {path}: {error.strerror}; set patient_key=FILE, or "
            "patient=header to write the patients' ids themselves"
        ) from None
    if len(key) < 16:
        raise ConfigError(f"{path}: a key of 16 bytes or more is needed for pseudonyms")
    return key


def _make_key(path: Path) -> None:
    """A fresh key for this user alone, unless there is one; never half of one."""
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(secrets.token_hex(32) + "\n")
    try:
        os.link(temporary, path)  # unlike a rename, it fails where another process was first
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _header(ct: Path) -> tuple[str, str]:
    """Patient id and name of the first DICOM file; blank where there is none to read."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    for path in dicom_files(ct) if ct.is_dir() else [ct] if is_dicom(ct) else []:
        try:
            with itk_name(path) as name:
                reader.SetFileName(name)
                reader.ReadImageInformation()
        except RuntimeError:
            continue
        told = (
            reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""
            for key in (_ID, _NAME)
        )
        return next(told), next(told)
    return "", ""
