"""A project of one's own: a folder with conf/ and a package beside it, once a person trusts it.

Its package can be imported and its conf/ is searched by every command that starts in the folder
or below it. Which folders are trusted stands in ~/.config/attnseg/trusted, an absolute path a line;
the environment variable ATTNSEG_PROJECT names one, too, for machines without a person (CI), and
tells it to the processes that a command starts. A run folder is never looked at for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from attnseg.common.errors import ConfigError
from attnseg.common.files import write_text

VARIABLE = "ATTNSEG_PROJECT"
_NOT_PARTS = {"conf", "tests", "docs", "examples", "notebooks", "setup"}


def record() -> Path:
    """The file with the trusted folders."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "attnseg" / "trusted"


def trusted() -> list[Path]:
    """The folders that the person trusts."""
    try:
        lines = record().read_text().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{record()}: cannot be read ({error})") from None
    return [Path(line) for line in lines if line]


def trust(folder: Path) -> list[str]:
    """Trust a folder from now on; returns its packages.

    Raises:
        ConfigError: it is no project.
    """
    folder = folder.resolve()
    if not (folder / "conf").is_dir() or not packages(folder):
        raise ConfigError(
            f"{folder}: a project has conf/ and a package (a folder with __init__.py) beside it; "
            "attnseg new NAME writes one"
        )
    if "\n" in str(folder):
        raise ConfigError(f"{str(folder)!r}: a folder's name with a line break cannot be kept")
    _write([*trusted(), folder])
    return packages(folder)


def distrust(folder: Path) -> bool:
    """Trust a folder no longer; whether it was trusted."""
    folder, known = folder.resolve(), trusted()
    _write([path for path in known if path != folder])
    return folder in known


def _write(folders: list[Path]) -> None:
    record().parent.mkdir(parents=True, exist_ok=True)
    write_text(record(), "".join(f"{path}\n" for path in dict.fromkeys(folders)))


def packages(folder: Path) -> list[str]:
    """The packages and modules that lie in a project's folder."""
    found = [path.parent.name for path in folder.glob("*/__init__.py")]
    found += [path.stem for path in folder.glob("*.py")]
    return sorted({name for name in found if name.isidentifier()} - _NOT_PARTS)


def active() -> Path | None:
    """The project that this process works in: as `activate` found it, or its starter did."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def active_packages() -> tuple[str, ...]:
    """What files may name, since their project is trusted."""
    project = active()
    return tuple(packages(project)) if project is not None else ()


def activate(start: Path | None = None) -> str | None:
    """Find the trusted project that a folder lies in, and make its package importable.

    Args:
        start: where to look, and above; the working directory.

    Returns:
        A note, where there is a project that nobody has trusted.

    Raises:
        ConfigError: ATTNSEG_PROJECT names no project.
    """
    project, note = active(), None
    if project is not None and not (project / "conf").is_dir():
        raise ConfigError(f"{VARIABLE}={project}: no project there (a folder with conf/)")
    if project is None:
        here = (start or Path.cwd()).resolve()
        known = trusted()
        project = next((path for path in (here, *here.parents) if path in known), None)
        if project is None and _looks_like_one(here):
            names = ", ".join(packages(here))
            note = f"conf/ and {names} in this folder are not used before: attnseg trust ."
    if project is not None:
        project = project.resolve()
        os.environ[VARIABLE] = str(project)
        inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join(
            dict.fromkeys([str(project), *filter(None, inherited)])
        )
        sys.path[:] = [str(project), *(path for path in sys.path if path != str(project))]
    return note


def _looks_like_one(folder: Path) -> bool:
    ours = Path(__file__).resolve().parents[2]
    configs = (folder / "conf").glob("*/*.yaml")
    return folder != ours and next(configs, None) is not None and bool(packages(folder))
