"""`attnseg drr`: CTs and nodule masks to DRRs and projected masks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from attnseg.commands.help import command_help, show, wants_help
from attnseg.common.errors import FAILED
from attnseg.config.compose import compose_checked
from attnseg.config.drr import DrrConfig

OVERRIDES = (
    ("ct=PATH", "a volume, a folder with a DICOM series, a folder of either, or a glob"),
    ("mask=PATH", "the same; masks.at_least=2 of a count of readers, masks.nodules=values"),
    ("out=FOLDER", "done cases of the same input and configuration are skipped"),
    ("projection=cone_beam projection.views=[PA,AP,15]", "views by name or by degrees from PA"),
    ("projection.random_views.count=4", "further views around the first, by (seed, case)"),
    ("projection.display.clahe_clip=0.02", "and percentiles, window, signal, blur_px"),
    ("patient=header", "write patients' ids; by default pseudonyms"),
    ("patient_pattern='LIDC-IDRI-[0-9]+'", "the patient in a file's name"),
    ("bits=16 workers=4 device=cuda", "how it is written, and on what it runs"),
)


def main(argv: Sequence[str]) -> int:
    """Project. Returns 0, or 1 where a volume of several failed."""
    arguments = list(argv)
    if wants_help(arguments) or not arguments:
        purpose = "project CTs and nodule masks to DRRs (radiographs) and their masks"
        return show(command_help("drr", purpose, ("projection",), OVERRIDES))
    config = compose_checked("drr", arguments, DrrConfig)

    from attnseg.imaging.drr.batch import project_all

    try:
        summary = project_all(config)
    except KeyboardInterrupt:
        print("\nwhat is done stays done; the same command goes on from there", file=sys.stderr)
        raise
    for note in summary.notes:
        print(f"note: {note}", file=sys.stderr)
    if summary.failures:
        print(f"{len(summary.failures)} could not be projected:", file=sys.stderr)
        for line in summary.failures:
            print(f"  - {line}", file=sys.stderr)
    print(f"{summary.n_projected} projected, {summary.n_skipped} were done before")
    if config.mask is None and summary.n_rows:
        print("no masks were given: the manifest lists the cases as unlabelled")
    if summary.sheet is not None:
        print(f"contact sheet: {summary.sheet}")
    if summary.manifest is not None:
        print(
            f"manifest:      {summary.manifest} ({summary.n_rows} images; data=manifest reads it)"
        )
    return FAILED if summary.failures else 0
