"""Writing files so that a reader never sees half of one, and reading tables back."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from attnseg.common.errors import ConfigError, WriteError
from attnseg.common.listing import readable

_WATCHED: dict[Path, Callable[[], None]] = {}


@contextmanager
def watched(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Ask `check` before every write of this process into a folder.

    A folder that was deleted would be made anew by the next write, as half of what it was.
    """
    place = folder.absolute()
    _WATCHED[place] = check
    try:
        yield
    finally:
        _WATCHED.pop(place, None)


def may_write(path: Path) -> None:
    """Ask for the watched folders that a path is in.

    Raises:
        FolderLostError: one of them is not what it was.
    """
    place = path.absolute()
    for folder, check in list(_WATCHED.items()):
        if folder == place or folder in place.parents:
            check()


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write beside the target, flush to the disk, then rename over it.

    The temporary file is beside the target, never in TMPDIR: a rename across file systems
    would be a copy, which a kill can cut in half.

    Raises:
        WriteError: the disk is full, or the place cannot be written to; the target is as it was.
        FolderLostError: it is in a watched folder that is gone.
    """
    may_write(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise WriteError(path, error) from error
    except RuntimeError as error:  # torch.save's archive closes with one of its own
        if isinstance(error.__context__, OSError):
            raise WriteError(path, error.__context__) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process left half written; nobody else may be writing there."""
    for path in folder.glob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            with suppress(OSError):
                path.unlink()


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power failure; some file systems do not know this."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip; those of torch before 1.6 do not, and hold no checksums."""
    with path.open("rb") as stream:
        return stream.read(2) == b"PK"


def damage_of_zip(path: Path) -> str | None:
    """What is wrong with a zip archive, by the checksum of each of its entries; None: it is whole.

    torch keeps its files in this form and reads them without looking at the checksums. The whole
    file is read, in memory that does not grow with it.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            broken = broken or next(filter(None, map(_misread, archive.infolist())), None)
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and struct raise many kinds
        return next(iter(str(error).splitlines()), type(error).__name__)
    return None if broken is None else f"checksum or header of {broken} in it is wrong"


def _misread(entry: zipfile.ZipInfo) -> str | None:
    """The name of an entry that torch would give from memory it has not filled."""
    directory = bool(entry.external_attr & 0x10)  # as DOS marks it: torch takes its size for 0
    stored = entry.compress_type == zipfile.ZIP_STORED
    short = stored and entry.compress_size != entry.file_size
    return entry.filename if directory or short else None


def user_path(text: str | Path) -> Path:
    """A path as a user gives it: `~/data` is below the home folder; a name may begin with ~."""
    path = Path(text)
    try:
        return path if os.path.lexists(path) else path.expanduser()
    except RuntimeError:  # of no user's home
        return path


def matching(pattern: str | Path) -> tuple[Path, list[Path]]:
    """What a glob matches, sorted, and the folder from which on it is one.

    Folders that are there by the very name that the pattern gives are no pattern: `a[1]/*.png`.
    """
    base, parts = Path(), user_path(pattern).parts
    while len(parts) > 1 and (base / parts[0]).exists():
        base, parts = base / parts[0], parts[1:]
    hits = glob.glob(os.path.join(*parts), root_dir=base, recursive=True)  # noqa: PTH118, PTH207
    return base, sorted(base / hit for hit in hits)


def sqlite_url(path: Path) -> str:
    """A database's URL, whatever is in its path; SQLAlchemy knows what it has to escape."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path.resolve())).render_as_string()


def make_folder(folder: Path, key: str) -> None:
    """Make a folder to write to, before the work whose results it is for.

    Args:
        folder: made with its parents where it is missing.
        key: the configuration key that named it.

    Raises:
        ConfigError: there is a file in its place, or it cannot be written to, or it is no text.
    """
    if readable(folder) != str(folder):  # ITK could not write there, and no JSON could name it
        raise ConfigError(f"{key}={folder}: is not UTF-8; choose another place")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "it is read-only"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise ConfigError(f"{key}={folder}: cannot be written to ({reason}); choose another place")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda stream: stream.write(text.encode(errors="backslashreplace")))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is a programmer's error, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


Row = Mapping[str, Any] | Sequence[Any]  # cells by column, or in the columns' order

_FORMULA = re.compile(r"'*(\s*[=+@\uff0b\uff1d\uff20\uff0d-]|[\t\n])")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def write_csv(
    stream: IO[str], columns: Sequence[str], rows: Iterable[Row], *, header: bool = True
) -> None:
    """Write a table, no cell of which a spreadsheet runs as a formula.

    A text that one would run (it begins with = + - @, a tab or a line break, and is no number)
    gets an apostrophe before it, which `read_csv` and `attnseg.common.tables` take off again.
    """
    writer = csv.writer(stream, lineterminator="\n")
    if header:
        writer.writerow([harmless(name) for name in columns])
    for row in rows:
        cells = [row.get(name) for name in columns] if isinstance(row, Mapping) else row
        writer.writerow([harmless(cell) for cell in cells])


def csv_text(columns: Sequence[str], rows: Iterable[Row], *, header: bool = True) -> str:
    """A table as `write_csv` writes it."""
    stream = io.StringIO()
    write_csv(stream, columns, rows, header=header)
    return stream.getvalue()


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if not isinstance(cell, str):
        return cell
    text = re.sub("\r\n?", "\n", cell)  # csv puts a lone one in no quotes, and reads it as an end
    formula = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if formula else text


def as_written(cell: str) -> str:
    """The text that `harmless` was given."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table that attnseg wrote, as text; `attnseg.common.tables` checks others."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [
        {
            as_written(key) if key else key: as_written(cell) if isinstance(cell, str) else cell
            for key, cell in row.items()
        }
        for row in rows
    ]


def replace_folder(folder: Path, place: Path) -> None:
    """Move a folder to its place; between the two steps nothing is there, never half of it.

    What was at `place` is first renamed to `<folder>-old`, beside the new one, and then removed.
    """
    if place.exists():
        old = folder.with_name(f"{folder.name}-old")
        place.rename(old)
        folder.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    else:
        folder.rename(place)
