"""`attnseg data check|show|build|mask`: what is wrong with a data set, what it looks like, and
making one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from attnseg.commands.help import command_help, show, wants_help
from attnseg.common.errors import ConfigError
from attnseg.config import DataCommandConfig
from attnseg.config.compose import compose_checked

OVERRIDES = (
    ("data=lidc_drr data.root=PATH", "real DRRs in their original layout"),
    ("data=manifest data.root=cases.csv", "your own files, listed in a CSV"),
    ("split=val", "show: only one split"),
    ("n_cases=24 output_dir=OUT", "show: how many, and where the sheet goes"),
    ("output_dir=OUT", "check: every line into a file, where many are alike"),
    ("data=jsrt data.root=PATH", "also node21, chestx_det: radiographs with marks for masks"),
    ("source=PATH out=OUT", "build: a manifest, or a folder in one of the layouts above"),
    ("images=copy license='CC BY 4.0'", "build: files of its own; into the data card"),
    ("data.split.val_fraction=0.2", "build: splits by patient, any key of data.split"),
    ("annotations=1.xml ct=CT out=M.nii.gz", "mask: LIDC XML, contours, LUNA16 CSV, or a folder"),
    ("readers=2 findings=[nodule]", "mask: how many readers must agree; which findings"),
)
ACTIONS = ("check", "show", "build", "mask")
_PURPOSE = """check a data set (`check`), draw a contact sheet of it (`show`),
  make a case set of it (`build`: manifest, images, splits by patient, data card),
  or turn annotations of CTs into mask volumes (`mask`)"""


def main(argv: Sequence[str]) -> int:
    """Do one of `ACTIONS`. Returns 0, or 1 where `check` found errors."""
    arguments = list(argv)
    if wants_help(arguments) or not arguments:
        return show(command_help(f"data {'|'.join(ACTIONS)}", _PURPOSE, ("data",), OVERRIDES))
    action, *overrides = arguments
    if action not in ACTIONS:
        known = ", ".join(f"`attnseg data {name}`" for name in ACTIONS)
        raise ConfigError(f"no action '{action}'; use {known}")
    if action == "build":
        from attnseg.commands.data_build import build

        return build(overrides)
    if action == "mask":
        from attnseg.commands.data_mask import mask

        return mask(overrides)
    config = compose_checked("data_command", overrides, DataCommandConfig)
    return _check(config) if action == "check" else _show(config)


def _check(config: DataCommandConfig) -> int:
    from attnseg.common.files import make_folder, write_text
    from attnseg.common.listing import shortened
    from attnseg.data.check import report_on

    report = report_on(config.data)
    lines = [str(finding) for finding in report.findings]
    short = shortened(lines)
    for line in short:
        print(line)
    if config.output_dir is not None:
        place = Path(config.output_dir) / f"{config.data.name}-check.txt"
        make_folder(place.parent, "output_dir")
        write_text(place, "".join(f"{line}\n" for line in [*lines, *report.summary]))
        print(f"everything: {place}")
    elif short != lines:
        print("output_dir=FOLDER writes every line to a file")
    errors = sum(finding.level == "error" for finding in report.findings)
    print(f"{config.data.name}: {errors:,} errors, {len(lines) - errors:,} warnings")
    for line in report.summary:
        print(line)
    return 1 if errors else 0


def _show(config: DataCommandConfig) -> int:
    from attnseg.data.contact_sheet import contact_sheet

    folder = Path(config.output_dir or ".")
    path = folder / f"{config.data.name}-{config.split}.png"
    try:
        contact_sheet(config.data, config.split, config.n_cases, path)
    except OSError as error:
        raise ConfigError(f"output_dir={folder}: cannot be written to ({error.strerror})") from None
    print(f"contact sheet: {path}", file=sys.stdout)
    return 0
