"""What is written over all cases: lesions.csv, lesions.json, images.csv, problems.json.

Everything is copied case by case from the cases' own records, so ten thousand images take no
more memory than ten.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from attnseg.common.files import write_atomically, write_csv, write_json
from attnseg.common.listing import readable, shortened
from attnseg.inference.files import read_result
from attnseg.inference.lesions import COLUMNS

IMAGE_COLUMNS = (
    "case",
    "image",
    "drr",
    "pathways",
    "height_px",
    "width_px",
    "spacing_row_mm",
    "spacing_column_mm",
    "threshold",
    "n_lesions",
    "top_score",
    "max_probability",
    "notes",
)
CASES = "cases"


def records_of(out: Path, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The record of each case, one at a time."""
    for name in names:
        record = read_result(out / CASES / name)
        if record is not None:
            yield record


def write_summaries(out: Path, names: Sequence[str], about: Mapping[str, Any]) -> None:
    """Write lesions.csv, images.csv and lesions.json over the named cases, each as a whole."""
    write_atomically(out / "lesions.csv", lambda stream: _lesions(stream, records_of(out, names)))
    write_atomically(out / "images.csv", lambda stream: _images(stream, records_of(out, names)))
    write_atomically(
        out / "lesions.json", lambda stream: _json(stream, records_of(out, names), about)
    )


def write_problems(out: Path, problems: Mapping[str, str], *, anonymise: bool) -> None:
    """Write problems.json (case to reason), or remove it where there is none."""
    path = out / "problems.json"
    if not problems:
        path.unlink(missing_ok=True)
        return
    hidden = "cannot be used (the reason names the file, and anonymise is on: see the terminal)"
    write_json(path, {name: hidden if anonymise else text for name, text in problems.items()})


def grouped(problems: Mapping[str, str], files: Mapping[str, Path]) -> list[str]:
    """Problems as lines; many files of a folder with the same one share a line."""
    groups: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for name, text in problems.items():
        path = files[name]
        reason = text.removeprefix(f"{readable(path)}: ")
        groups[(path.parent, reason)].append(text)
    lines = []
    for (folder, reason), texts in groups.items():
        if len(texts) < 4:
            lines += texts
        else:
            lines.append(f"{readable(folder)}: {len(texts)} files, each {reason}")
    return shortened(lines)


def _lesions(stream: IO[bytes], records: Iterable[Mapping[str, Any]]) -> None:
    rows = (
        {**lesion, "case": record["case"], "pathways": record["pathways"]}
        for record in records
        for lesion in record["lesions"]
    )
    _table(stream, COLUMNS, rows)


def _images(stream: IO[bytes], records: Iterable[Mapping[str, Any]]) -> None:
    _table(stream, IMAGE_COLUMNS, map(_image, records))


def _image(record: Mapping[str, Any]) -> dict[str, Any]:
    row_mm, column_mm = record["spacing_mm"] or (None, None)
    height, width = record["shape_px"]
    return {
        **record,
        "height_px": height,
        "width_px": width,
        "spacing_row_mm": row_mm,
        "spacing_column_mm": column_mm,
        "notes": "; ".join(record["notes"]),
    }


def _table(stream: IO[bytes], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write CSV to a binary stream, which stays open."""
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    write_csv(text, columns, rows)
    text.detach()


def _json(
    stream: IO[bytes], records: Iterable[Mapping[str, Any]], about: Mapping[str, Any]
) -> None:
    """{..., "cases": [...]}, written a case at a time."""
    head = json.dumps(dict(about), indent=2, allow_nan=False)
    stream.write(head[: head.rindex("\n}")].encode() + b',\n  "cases": [')
    separator = "\n"
    for record in records:
        kept = {key: value for key, value in record.items() if key != "key"}
        stream.write(f"{separator}{json.dumps(kept, allow_nan=False)}".encode())
        separator = ",\n"
    stream.write(b"\n  ]\n}\n")
