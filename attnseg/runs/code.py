"""The code a run is made of: what is recorded of it, and what has changed since it was.

Code is what its source says, not what it is called: digests of the syntax trees, so that comments,
layout and docstrings do not count. Covered are the classes that a configuration names and all
that they import from their own package and from the folder that it lies in, and of attnseg what
training imports. A package that came from an index is known by its version.
"""

from __future__ import annotations

import functools
import json
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    packages_distributions,
)
from pathlib import Path
from typing import Any

from attnseg import __version__
from attnseg.config import TrainConfig
from attnseg.config.component import components_in
from attnseg.runs.git import state_of_file
from attnseg.runs.source import Module, Source, Sources, closure, digest_of, find, homes

Code = dict[str, Any]
"""`digest` of all syntax trees; `python`; `packages`, each with version, and commit and dirty where
git knows it; `files`, each with the digests of its tree and its bytes; `earlier`, where a run went
on under changed code: its digest, the files that changed, and the step."""

_OURS = "attnseg"
_TRAINS = "attnseg.training.fit"
_SHOWS = (
    "attnseg.commands",
    "attnseg.training.loggers",
    "attnseg.reports",
)  # they decide no number
_LIBRARIES = ("torch", "pytorch-lightning", "monai", "numpy")
_NAMED = 8  # files in a message


def code_of(config: TrainConfig) -> Code:
    """What a run is made of now, in plain types."""
    targets = tuple(sorted(set(_targets(config.model_dump(mode="json", exclude={"logger"})))))
    sources = _sources()
    files = _own_files(_own_modules(config), sources) | _foreign_files(targets, sources)
    sources.save()
    trees = json.dumps({name: files[name].tree for name in sorted(files)})
    return {
        "digest": digest_of(trees.encode()),
        "python": _python(),
        "packages": _packages(targets),
        "files": {name: f"{files[name].tree} {files[name].raw}" for name in sorted(files)},
    }


def digest_of_classes(targets: Sequence[str]) -> str:
    """Of the code of some classes, and of what they import from beside them."""
    sources = _sources()
    files = _foreign_files(tuple(targets), sources)
    return digest_of(json.dumps({name: files[name].tree for name in sorted(files)}).encode())


def changed_files(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The files whose content differs; bytes are compared where Python's version differs.

    attnseg's own do not count between two commits or versions of it, which are told instead; they
    do where it was edited on either side.
    """
    if (then.get("digest"), then.get("python")) == (now["digest"], now["python"]):
        return []
    which = 0 if then.get("python") == now["python"] else 1
    theirs, ours = (
        {name: digests.split()[which] for name, digests in code["files"].items()}
        for code in (then, now)
    )
    changed = {n for n in {*theirs, *ours} if theirs.get(n) != ours.get(n)}
    if _vouched(then["packages"].get(_OURS, {}), now["packages"][_OURS]):
        changed = {name for name in changed if not name.startswith(f"{_OURS}/")}
    return sorted(changed)


def _vouched(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether commit or version say of both sides what attnseg's source is."""
    if then.get("dirty") or now.get("dirty"):
        return False
    commits = then.get("commit"), now.get("commit")
    return all(commits) or then.get("version") != now.get("version")


def other_versions(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Packages whose version or commit differs, in one line; empty where none does."""
    lines = []
    if then.get("python") != now["python"]:
        lines.append(f"Python {then.get('python')} -> {now['python']}")
    for name in sorted({*then["packages"]} & {*now["packages"]}):
        old, new = (_place(code["packages"][name]) for code in (then, now))
        if old != new:
            lines.append(f"{name} {old} -> {new}")
    return ", ".join(lines)


def _place(package: Mapping[str, Any]) -> str:
    commit = str(package.get("commit") or "")[:7]
    words = [str(package.get("version") or ""), f"commit {commit}" if commit else ""]
    return " ".join(word for word in words if word) or "of no version"


def continued(then: Mapping[str, Any], now: Code, changed: Sequence[str], step: int) -> Code:
    """The code of a run that goes on, with what it was made of before."""
    earlier = list(then.get("earlier", []))
    if changed:
        earlier.append({"digest": then["digest"], "changed": list(changed), "until_step": step})
    return {**now, "earlier": earlier} if earlier else now


def listed(files: Sequence[str]) -> str:
    """A few of the files, and how many more."""
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return ", ".join(files[:_NAMED]) + more


def _targets(tree: Any) -> Iterator[str]:
    """Every class that a configuration names by `_target_`."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key == "_target_" and isinstance(value, str):
                yield value
            yield from _targets(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _targets(value)


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@functools.cache
def _sources() -> Sources:
    from attnseg.common.paths import cache_folder

    return Sources(cache_folder(None) / f"source-{_python()}-1.json")


def _own_modules(config: TrainConfig) -> tuple[str, ...]:
    """Where the components of ours lie that a configuration names: nothing imports them all."""
    found = {component.target.rpartition(".")[0] for component in components_in(config)}
    return tuple(sorted(name for name in found if _top(name) == _OURS))


@functools.cache
def _own_files(components: tuple[str, ...], sources: Sources) -> dict[str, Source]:
    """Of attnseg; asked once a process, which runs what it has imported."""
    return closure(
        [_TRAINS, *components],
        lambda module: _top(module.name) == _OURS and not module.name.startswith(_SHOWS),
        sources,
    )


def _foreign_files(targets: Sequence[str], sources: Sources) -> dict[str, Source]:
    """Of the classes that a configuration names, and what they import from beside them."""
    local = {top for top in _foreign_tops(targets) if not _known_by_version(top)}
    around = {Path.cwd()}.union(*map(_homes, local)) - _installed()

    def follows(module: Module) -> bool:
        top = _top(module.name)
        return top != _OURS and (top in local or bool(_homes(top) & around))

    return closure([target.rpartition(".")[0] for target in targets], follows, sources)


def _foreign_tops(targets: Sequence[str]) -> set[str]:
    return {_top(target) for target in targets} - {_OURS}


def _top(name: str) -> str:
    return name.partition(".")[0]


@functools.cache
def _homes(top: str) -> frozenset[Path]:
    module = find(top)
    return frozenset(home.resolve() for home in homes(module)) if module else frozenset()


@functools.cache
def _installed() -> frozenset[Path]:
    """The folders in which Python keeps what was installed."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = [sysconfig.get_path(name) for name in names]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    return frozenset(Path(path).resolve() for path in paths)


@functools.cache
def _known_by_version(top: str) -> bool:
    """Whether a package belongs to Python, or was installed from an index, unlike one that was
    installed from a folder or a repository (PEP 610)."""
    if top in sys.stdlib_module_names:
        return True
    found = _distribution(top)
    installed = bool(_homes(top) & _installed())
    return installed and found is not None and found.read_text("direct_url.json") is None


@functools.cache
def _distribution(top: str) -> Distribution | None:
    with suppress(PackageNotFoundError):
        return distribution(top)
    if not _homes(top) & _installed():
        return None
    names = packages_distributions().get(top)  # a look at all that is installed: half a second
    return distribution(names[0]) if names else None


def _packages(targets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Version, commit and dirty flag of what the run is made of."""
    found = {_OURS: {"version": __version__, **_git(_OURS)}}
    for name in (*_LIBRARIES, *sorted(_foreign_tops(targets))):
        known = _distribution(name)
        version = {"version": known.version} if known else {}
        found[name] = version | (
            {} if name in _LIBRARIES or _known_by_version(name) else _git(name)
        )
    return found


def _git(top: str) -> dict[str, Any]:
    module = find(top)
    state = state_of_file(module.file) if module and module.file else None
    return {"commit": state.commit, "dirty": state.dirty} if state else {}
