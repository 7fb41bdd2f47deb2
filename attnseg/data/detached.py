"""Image files whose pixels lie in another file: which ones."""

from __future__ import annotations

from pathlib import Path

_LARGEST_HEADER = 1 << 16  # bytes; a larger file holds its pixels itself
_META, _NRRD = (".mha", ".mhd"), (".nrrd", ".nhdr")
_PAIRS = {".hdr": (".img", ".img.gz"), ".img": (".hdr",), ".img.gz": (".hdr", ".hdr.gz")}


def data_files(path: Path, n_bytes: int) -> list[Path]:
    """The files that an image's header names or implies: of MetaIO, NRRD, and NIfTI's pairs.

    Args:
        path: of the header; a file that holds its pixels itself gives an empty list.
        n_bytes: its size.

    Raises:
        OSError: the header cannot be read.
    """
    name = path.name.lower()
    for ending, others in _PAIRS.items():
        if name.endswith(ending):
            stem = path.name[: -len(ending)]
            return [p for p in (path.with_name(stem + other) for other in others) if p.is_file()]
    if n_bytes > _LARGEST_HEADER or not name.endswith((*_META, *_NRRD)):
        return []
    lines = path.read_bytes().decode("latin-1").splitlines()
    mark, separator = ("elementdatafile", "=") if name.endswith(_META) else ("datafile", ":")
    for number, line in enumerate(lines):
        if not line.strip():  # an NRRD's header ends here
            break
        key, _, value = line.partition(separator)
        if key.strip().lower().replace(" ", "") == mark:
            return [path.parent / one for one in _listed(value.strip(), lines[number + 1 :])]
    return []


def _listed(value: str, following: list[str]) -> list[str]:
    """What a header means by its data file: itself, one, a list of lines, or a numbered series."""
    words = value.split()
    if not words or words[0].upper() == "LOCAL":
        return []
    if words[0].upper().startswith("LIST"):
        return [line.strip() for line in following if line.strip()]
    if "%" in value and len(words) >= 3:
        try:
            first, last, step = (int(word) for word in [*words[1:4], "1"][:3])
            return [words[0] % number for number in range(first, last + 1, step or 1)]
        except (TypeError, ValueError):  # no numbers: reading the image will say so
            return []
    return [value]
