"""`attnseg new`: write a small project, whose parts attnseg uses without being changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from attnseg.commands.help import show, wants_help
from attnseg.common import project
from attnseg.common.errors import ConfigError
from attnseg.common.paths import example_dir

HELP = """attnseg new: write a small project of your own, and trust it

usage: attnseg new NAME [FOLDER]

It holds an attention, a loss term, a curve, a schedule, an experiment that uses them all, a test,
a notebook, and try.sh, which takes them through every command. FOLDER: ./NAME if none is given."""

_TEMPLATE = "mylab"
_LEFT_OUT = {"__pycache__", ".pytest_cache", ".ruff_cache"}


def main(argv: Sequence[str]) -> int:
    """Write and trust a project; the exit code."""
    if wants_help(argv):
        return show(HELP)
    if not 1 <= len(argv) <= 2 or any(word.startswith("-") for word in argv):
        raise ConfigError("give a name, and a folder if you like: attnseg new NAME [FOLDER]")
    name = argv[0]
    folder = Path(argv[1] if len(argv) > 1 else name).expanduser()
    write_project(name, folder)
    project.trust(folder)
    print(f"{folder.resolve()}: written, and trusted from now on")
    print(f"next: cd {folder}; attnseg train experiment=own; ./try.sh; README.md says more")
    return 0


def write_project(name: str, folder: Path) -> None:
    """Write the example under another name.

    Raises:
        ConfigError: the name is no package's, or is taken; or the folder has something in it.
    """
    if not name.isidentifier() or not name.islower():
        raise ConfigError(f"{name!r}: a package's name is needed (lower-case letters, digits, _)")
    installed = [place for place in sys.path if place not in ("", str(Path.cwd()))]
    taken = name in sys.stdlib_module_names or PathFinder.find_spec(name, installed)
    if taken and name != _TEMPLATE:
        raise ConfigError(f"{name}: there is a package of that name already; choose another")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: something is there already; choose another folder")
    template = example_dir() / _TEMPLATE
    for source in sorted(template.rglob("*")):
        place = source.relative_to(template)
        if source.is_dir() or _LEFT_OUT & set(place.parts):
            continue
        target = folder.joinpath(*(part.replace(_TEMPLATE, name) for part in place.parts))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text().replace(_TEMPLATE, name))
        target.chmod(source.stat().st_mode)
