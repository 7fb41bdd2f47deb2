"""`attnseg data check|show`: what is wrong with a data set, and what it looks like."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from attnseg.commands.compose import compose_checked
from attnseg.commands.help import command_help, show, wants_help
from attnseg.config import DataCommandConfig
from attnseg.errors import ConfigError

OVERRIDES = (
    ("data=lidc_drr data.root=PATH", "real DRRs in their original layout"),
    ("data=manifest data.root=cases.csv", "your own files, listed in a CSV"),
    ("split=val", "show: only one split"),
    ("n_cases=24 output_dir=OUT", "show: how many, and where the sheet goes"),
)


def main(argv: Sequence[str]) -> int:
    """Check or show. Returns 0, or 1 where `check` found errors."""
    arguments = list(argv)
    if wants_help(arguments) or not arguments:
        purpose = "check a data set (`check`), or draw a contact sheet of it (`show`)"
        return show(command_help("data check|show", purpose, ("data",), OVERRIDES))
    action, *overrides = arguments
    if action not in ("check", "show"):
        raise ConfigError(f"no action '{action}'; use `attnseg data check` or `attnseg data show`")
    config = compose_checked("data_command", overrides, DataCommandConfig)
    return _check(config) if action == "check" else _show(config)


def _check(config: DataCommandConfig) -> int:
    from attnseg.data.check import check_data

    findings = check_data(config.data)
    errors = [finding for finding in findings if finding.level == "error"]
    for finding in findings:
        print(f"{finding.level}: {finding.message}")
    warnings = len(findings) - len(errors)
    print(f"{config.data.name}: {len(errors)} errors, {warnings} warnings")
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
