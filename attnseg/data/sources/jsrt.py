"""JSRT: digitised chest radiographs, 154 with one nodule each (JPCLNnnn), 93 without (JPCNNnnn).

The .IMG files have no header: 2048 x 2048 big-endian 16-bit words of 12 bits, dense tissue dark,
0.175 mm a pixel. They are turned, so that dense tissue is bright as everywhere here. PNGs of
another size are the same picture scaled. A nodule is a disc (centre and size from CLNDAT_EN.txt):
a surrogate for a mask. The set has one radiograph a patient.
Source: Shiraishi et al., AJR 174(1), 2000; db.jsrt.or.jp.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.files import user_path
from attnseg.component import Doc
from attnseg.data.sources.radiographs import RadiographSource, existing_root, images_below
from attnseg.imaging.annotations.jsrt import SIDE_PX, SPACING_MM, read_jsrt_table
from attnseg.imaging.annotations.nodule import Nodule
from attnseg.imaging.case import Case
from attnseg.imaging.images import Picture, read_image

_NAME = re.compile(r"(JPC[LN]N\d{3})\.\w+", re.IGNORECASE)
_WHITE = 4095
_BYTES = 2 * SIDE_PX * SIDE_PX


class JsrtSource(RadiographSource):
    """JSRT: JPCLNnnn and JPCNNnnn as .IMG or PNG, and CLNDAT_EN.txt; lesions are discs.

    Lists the folder and reads the table once; images are opened by `load` only.

    Raises:
        ConfigError: `data.root` or `data.table` is not set right.
        DataError: there is no image, or the table cannot be understood.
    """

    name = "jsrt"

    def __init__(
        self,
        *,
        root: Annotated[str | None, Doc("the folder of the images; needed")] = None,
        table: Annotated[str | None, Doc("null: CLNDAT_EN.txt below root")] = None,
        png_inverted: Annotated[
            bool, Doc("the .IMG files are (dense tissue dark); were the PNGs left so?")
        ] = False,
    ) -> None:
        folder = existing_root(root, "jsrt", "JPCLN001.IMG ... and CLNDAT_EN.txt")
        self._png_inverted = png_inverted
        path = _find_table(table, folder)
        nodules = read_jsrt_table(path)
        images = _images(folder)
        if not images:
            raise DataError(
                f"data.root={folder}: no JPCLNnnn or JPCNNnnn image below it; unpack JSRT's "
                "All247images.zip there"
            )
        problems = _problems(images, nodules, path)
        cases, lesions = [], {}
        for name, paths in images.items():
            known = name.startswith("JPCNN") or name in nodules
            if len(paths) == 1 and known:
                case = Case(name, name, xray=paths[0], pairing="unpaired", mask_kind="surrogate")
                cases.append(case)
                lesions[name] = [nodules[name]] if name in nodules else []
        record = {"name": "jsrt", "root": str(folder), "table": str(path)}
        super().__init__(record, cases, lesions, problems, annotated_width=SIDE_PX)

    def read(self, path: Path) -> Picture:
        """An .IMG or PNG, turned where dense tissue is dark, with its spacing."""
        if path.suffix.lower() == ".img":
            return read_img(path)
        picture = read_image(path)
        pixels = picture.pixels
        height, width = pixels.shape
        if height != width:
            raise DataError(f"{path}: {height} x {width} px; JSRT's images are square, not cropped")
        if self._png_inverted:
            high = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else pixels.max()
            pixels = (high - pixels).astype(pixels.dtype)
        side = SPACING_MM * SIDE_PX / width
        return Picture(pixels, (side, side))

    def options(self) -> str:
        """Whether PNGs are turned."""
        return f"png_inverted={self._png_inverted}"


def read_img(path: Path) -> Picture:
    """One of JSRT's .IMG files: uint16, 0 to 4095, dense tissue bright.

    Raises:
        DataError: missing, of another length, or not 12 bits (little-endian, say).
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_BYTES)
            data += stream.read(1)  # a longer file is refused, not read
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None
    if len(data) != _BYTES:
        raise DataError(
            f"{path}: {path.stat().st_size} bytes, but an image of {SIDE_PX} x {SIDE_PX} 16-bit "
            f"pixels has {_BYTES}; it is cut off, or no .IMG of JSRT"
        )
    pixels = np.frombuffer(data, dtype=">u2").reshape(SIDE_PX, SIDE_PX)
    if pixels.max() > _WHITE:
        raise DataError(
            f"{path}: has values up to {pixels.max()}, but 12 bits end at {_WHITE}; its bytes are "
            "swapped, or it is no .IMG of JSRT"
        )
    return Picture((_WHITE - pixels).astype(np.uint16), (SPACING_MM, SPACING_MM))


def _images(root: Path) -> dict[str, list[Path]]:
    """Images by JSRT's name; an .IMG before a PNG of it beside, since it is the original."""
    found: dict[str, list[Path]] = defaultdict(list)
    for name, paths in images_below(root).items():
        match = _NAME.fullmatch(name)
        if match is not None:
            found[match[1].upper()] += paths
    chosen = {}
    for name in sorted(found):
        originals = [path for path in found[name] if path.suffix.lower() == ".img"]
        chosen[name] = originals or found[name]
    return chosen


def _problems(images: dict[str, list[Path]], nodules: dict[str, Nodule], table: Path) -> list[str]:
    found = []
    for name, paths in images.items():
        if len(paths) > 1:
            places = ", ".join(str(path) for path in paths)
            found.append(f"{name}: duplicate case, in {places}; keep one")
        if name.startswith("JPCLN") and name not in nodules:
            found.append(
                f"{paths[0]}: no record of {name} in {table}, so nobody knows where its nodule is"
            )
    return found


def _find_table(configured: str | None, root: Path) -> Path:
    if configured is not None:
        path = user_path(configured)
        if not path.is_file():
            raise ConfigError(f"data.table={path}: no such file; null looks for it below root")
        return path
    found = sorted(path for path in root.rglob("*") if path.name.lower() == "clndat_en.txt")
    if not found:
        raise ConfigError(
            f"data.root={root}: no CLNDAT_EN.txt below it; unpack JSRT's Clinical_Information.zip "
            "there, or set data.table=/path/to/CLNDAT_EN.txt"
        )
    return found[0]
