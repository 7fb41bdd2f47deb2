"""`attnseg trust`: let attnseg use the conf/ and the package of a folder of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnseg.commands.help import show, wants_help
from attnseg.common import project
from attnseg.common.errors import ConfigError

HELP = """attnseg trust: use the conf/ and the package of a folder of one's own

usage: attnseg trust            the folders that are trusted
       attnseg trust FOLDER     every command in it (or below) finds its conf/ and package
       attnseg trust --remove FOLDER

What is trusted runs: its package is imported where a configuration, a run folder or a checkpoint
names a class of it. Paths are kept in ~/.config/attnseg/trusted. Where nobody can answer for a
folder (CI), the environment does: ATTNSEG_PROJECT=FOLDER attnseg ..."""


def main(argv: Sequence[str]) -> int:
    """List, add or remove a folder; the exit code."""
    if wants_help(argv):
        return show(HELP)
    folders = [word for word in argv if not word.startswith("-")]
    flags = [word for word in argv if word.startswith("-")]
    if set(flags) - {"--remove"} or len(folders) > 1 or (flags and not folders):
        raise ConfigError("give one folder: attnseg trust FOLDER, or attnseg trust --remove FOLDER")
    if not folders:
        known = project.trusted()
        print("\n".join(map(str, known)) if known else "no folder is trusted: attnseg trust FOLDER")
        return 0
    folder = Path(folders[0]).expanduser()
    if flags:
        was = project.distrust(folder)
        print(f"{folder.resolve()}: {'trusted no longer' if was else 'was not trusted'}")
        return 0
    names = project.trust(folder)
    print(f"trusted: {folder.resolve()} (conf/, {', '.join(names)})")
    return 0
