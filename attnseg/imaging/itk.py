"""What ITK is asked: by a name that it can take, and for no more pixels than there is room for.

ITK ends the process at a file name that is not UTF-8, and takes memory for whatever size a header
claims: a PNG of 437 kB can be one of 60,000 x 60,000 pixels.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attnseg.common.errors import DataError
from attnseg.common.listing import readable
from attnseg.common.memory import available_memory

MOST_PIXELS = 2**28
"""Of an image: 16,384 x 16,384. The largest radiographs have a tenth of it."""

_BYTES_A_PIXEL = 16  # the file's own, as float32, and a copy or two
_BYTES_A_VOXEL = 8
_GIB = 2**30


def refuse_too_large(path: Path, size: Sequence[int], *, image: bool = True) -> None:
    """Refuse what memory would not hold, before memory is asked for.

    Args:
        path: of the file.
        size: of each axis, as the header says.
        image: a picture, whose pixels are limited, too; else a volume.

    Raises:
        DataError: it is too large.
    """
    count = math.prod(int(side) for side in size)
    shown = " x ".join(str(int(side)) for side in size)
    if image and count > MOST_PIXELS:
        raise DataError(
            f"{path}: its header says {shown} px, and more than {MOST_PIXELS / 1e6:.0f} million "
            "are taken for a damaged or hostile file; scale it down, if it is an image"
        )
    needed, free = count * (_BYTES_A_PIXEL if image else _BYTES_A_VOXEL), available_memory()
    if needed > free:
        raise DataError(
            f"{path}: its header says {shown} {'px' if image else 'voxels'}, for which "
            f"{needed / _GIB:.1f} GiB of memory are needed, and {free / _GIB:.1f} GiB are free; "
            "scale it down, or use a machine with more"
        )


@contextmanager
def opened(path: Path, *, image: bool = True) -> Iterator[Any]:
    """SimpleITK's reader of a file: the header is read and not too large, the pixels are not read.

    Raises:
        DataError: it is too large.
        RuntimeError: ITK cannot read it, in the block as well.
    """
    import SimpleITK as sitk

    with itk_name(path) as name:
        reader = sitk.ImageFileReader()
        reader.SetFileName(name)
        reader.ReadImageInformation()
        refuse_too_large(path, reader.GetSize(), image=image)
        yield reader


@contextmanager
def itk_name(path: Path) -> Iterator[str]:
    """A name in UTF-8 of a file or folder, and of the files in the folder: links, where need be."""
    inside = [child.name for child in path.iterdir()] if path.is_dir() else []
    if all(_is_text(name) for name in (str(path), *inside)):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="attnseg-") as folder:
        place = Path(folder) / "files"
        if path.is_dir():
            place.mkdir()
            for number, name in enumerate(sorted(inside)):
                new = name if _is_text(name) else f"{number:05d}-{_plain(name)}"
                (place / new).symlink_to(path.absolute() / name)
            yield str(place)
        elif _is_text(path.name):  # what lies beside it, as an .mhd's pixels do, stays there
            place.symlink_to(path.absolute().parent)
            yield str(place / path.name)
        else:
            link = place.with_name(_plain(path.name))
            link.symlink_to(path.absolute())
            yield str(link)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(name: str) -> str:
    return readable(name).replace("\\", "_")[-100:]
