"""Checkpoints: plain types only, written whole or not at all, loaded without executing code."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from attnseg.common.credentials import concealed
from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.common.files import damage_of_zip, is_zip, user_path, write_atomically, write_text
from attnseg.common.finite import broken_tensors, some
from attnseg.config import TrainConfig, validate
from attnseg.config.trust import refuse_untrusted
from attnseg.runs.archive import KEY, archive_records, read_archive, write_archive
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import without_free
from attnseg.runs.patients import KEY as PATIENTS
from attnseg.runs.patients import TrainedPatients
from attnseg.runs.pretrained import means_pretrained, no_such_checkpoint, pretrained_file

ENSEMBLE_FILE = "ensemble.txt"  # in a folder: its members, one path a line
_WEIGHTS = "model."
_FILES = ("file", "weights", "root", "manifest", "scans_csv")  # of a configuration or data record


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint file, written beside the target, flushed and renamed over it."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Save so that `path` is always either the old checkpoint or the new one, whole."""
        assert storage_options is None, "a local file takes no storage options"
        save_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load tensors and plain types only, whatever the caller asked for."""
        return read_checkpoint(Path(path), "resume")


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What a command needs of a trained model."""

    path: Path
    config: TrainConfig
    weights: dict[str, Tensor]
    threshold: float
    identity: str
    data_record: dict[str, Any]
    epoch: int | None
    trained: TrainedPatients
    code: dict[str, Any] = field(default_factory=dict)  # what `attnseg.runs.code` recorded

    def load_into(self, model: nn.Module) -> None:
        """Load the weights.

        Raises:
            CheckpointError: the weights are of another model.
        """
        ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        theirs = {name: tuple(value.shape) for name, value in self.weights.items()}
        if ours != theirs:
            missing = sorted(set(ours) - set(theirs))
            surplus = sorted(set(theirs) - set(ours))
            shapes = sorted(n for n in set(ours) & set(theirs) if ours[n] != theirs[n])
            parts = [
                f"{len(names)} {what} (first: {names[0]})"
                for names, what in (
                    (missing, "tensors missing"),
                    (surplus, "unknown tensors"),
                    (shapes, "of another shape"),
                )
                if names
            ]
            raise CheckpointError(
                f"{self.path}: its weights do not fit the model its config names "
                f"({self.config.model.name}): {'; '.join(parts)}"
            )
        model.load_state_dict(self.weights)


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a .ckpt, whole or not at all."""
    write_atomically(path, lambda stream: torch.save(content, stream))


def read_checkpoint(path: Path, key: str = "checkpoint") -> dict[str, Any]:
    """Read a .ckpt with `weights_only=True`: nothing in it is executed.

    Args:
        path: the file; its checksums are verified.
        key: the configuration key that named it.

    Raises:
        CheckpointError: damaged, truncated, or it holds more than tensors and plain types; with
            the newest good checkpoint that is left beside it.
    """
    try:
        damage = damage_of_zip(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    if damage is not None:
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint, it is none or is damaged ({damage})"
            + _left_beside(path, key)
        )
    return _unpickled(path)


def _left_beside(path: Path, key: str) -> str:
    """A sentence on the newest checkpoint of the run folder that can be used instead."""
    names = ("best.ckpt", "last.ckpt")
    if path.name not in names:
        return ""
    good: list[tuple[int, int, Path]] = []
    for other in (path.with_name(name) for name in names if name != path.name):
        with suppress(CheckpointError, OSError, KeyError, TypeError, ValueError):
            if damage_of_zip(other) is None:
                content = _unpickled(other)
                good.append((int(content["global_step"]), int(content["epoch"]) + 1, other))
    if not good:
        afresh = "; resume=none starts afresh" if key == "resume" else ""
        return f"; no other good checkpoint is left beside it{afresh}"
    _, epoch, newest = max(good)
    return f"; the newest good one that is left is of epoch {epoch}: {key}={newest}"


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # its own advice is to load it nevertheless
        raise CheckpointError(
            f"{path}: refused, it is no checkpoint, or one that holds more than tensors and plain "
            "values (loading it could run code)"
        ) from None
    except Exception as error:  # what is no checkpoint can raise anything
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint (truncated?): {_first_line(error)}"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds no checkpoint but a {type(content).__name__}")
    return content


def diverged(path: Path, broken: list[str]) -> CheckpointError:
    """The error of weights that are not finite."""
    return CheckpointError(
        f"{path}: its weights are not finite (NaN or infinite: {some(broken)}), the training had "
        "diverged; use an earlier checkpoint"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_records(path: Path) -> list[dict[str, Any]]:
    """What a file of weights says of itself (of an ensemble: each member), without its weights.

    Empty where it was not written by attnseg.

    Raises:
        CheckpointError: it cannot be read.
    """
    if path.suffix == ".safetensors":
        return archive_records(path)
    if not is_zip(path):
        return []
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged file, or a file system that maps no files
        content = read_checkpoint(path)
    record = content.get(KEY) if isinstance(content, dict) else None
    return [record] if isinstance(record, dict) else []


def patients_of(path: Path, record: Mapping[str, Any]) -> TrainedPatients:
    """The patients that a checkpoint's record notes.

    Raises:
        CheckpointError: what it notes is broken.
    """
    try:
        return TrainedPatients.from_record(record)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its record of the patients that trained it is broken ({error})"
        ) from None


def find_checkpoint(spec: str, key: str = "checkpoint") -> Path:
    """The file that `checkpoint=` (or another key) means: itself, or a run folder's best or last.

    `pretrained` is the weights that come with the package, see `attnseg.runs.pretrained`.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(spec)
    if key in ("checkpoint", "warmstart") and means_pretrained(spec) and not path.exists():
        return pretrained_file(spec, key)
    if path.is_dir():
        folder = RunFolder(path)
        for candidate in (folder.best, folder.last, path / "best.ckpt", path / "last.ckpt"):
            if candidate.is_file():
                return candidate
        raise CheckpointError(
            f"{key}={spec}: the folder holds no checkpoints/best.ckpt or last.ckpt "
            "(has the run finished an epoch?)"
        )
    if not path.is_file():
        raise no_such_checkpoint(key, spec)
    return path


def _members(path: Path, key: str, trust: Sequence[str]) -> list[LoadedCheckpoint]:
    """The model of a file, or those of an ensemble."""
    if path.suffix in (".pt2", ".onnx"):
        raise CheckpointError(
            f"{path}: a graph, for use without attnseg; give the run folder, .ckpt or .safetensors "
            "that it was exported from"
        )
    if path.suffix == ".safetensors":
        return [_loaded(path, record, weights, trust) for record, weights in read_archive(path)]
    content = read_checkpoint(path, key)
    record, state = content.get(KEY), content.get("state_dict")
    if not isinstance(record, dict) or not isinstance(state, dict):
        raise CheckpointError(
            f"{path}: not a checkpoint of attnseg (it has no '{KEY}' record); bare weights go in "
            "as e.g. model.encoder.weights=..."
        )
    weights = {
        name.removeprefix(_WEIGHTS): value
        for name, value in state.items()
        if name.startswith(_WEIGHTS)
    }
    return [_loaded(path, record | {"epoch": content.get("epoch")}, weights, trust)]


def _loaded(
    path: Path, record: dict[str, Any], weights: dict[str, Tensor], trust: Sequence[str]
) -> LoadedCheckpoint:
    refuse_untrusted(record.get("config"), trust, path)
    if broken := broken_tensors(weights):
        raise diverged(path, broken)
    trained = patients_of(path, record)
    try:
        data = dict(record.get("data", {}))
        data.pop("train_patients", None)  # plain ids, of before there were hashes
        return LoadedCheckpoint(
            path=path,
            config=validate(record["config"], TrainConfig),
            weights=weights,
            threshold=float(record.get("threshold", 0.5)),
            identity=str(record.get("identity", "")),
            data_record=data,
            epoch=record.get("epoch"),
            trained=trained,
            code=dict(record.get("code", {})),
        )
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: was made by another version of attnseg ({record.get('version')}): {error}"
        ) from None


def load_checkpoints(
    spec: str | Sequence[str], key: str = "checkpoint", *, trust: Sequence[str] = ()
) -> list[LoadedCheckpoint]:
    """Load one checkpoint, or the members of an ensemble.

    Args:
        spec: a run folder, a .ckpt, a .safetensors of one model or of an ensemble, a list of
            such, or a folder whose `ensemble.txt` lists them, one a line (relative paths start
            at the folder; # begins a comment).
        key: the configuration key that named it.
        trust: packages whose networks it may name, beside attnseg's and MONAI's.

    Raises:
        CheckpointError: a member is not there, damaged, not made by attnseg, of another version,
            or names a network of a package that is not trusted.
    """
    given = [spec] if isinstance(spec, str) else list(spec)
    if not given:
        raise CheckpointError(f"{key}=[]: give at least one checkpoint")
    files = [find_checkpoint(one, key) for name in given for one in _listed(name)]
    return [member for path in files for member in _members(path, key, trust)]


def _listed(spec: str) -> list[str]:
    """The checkpoints that a folder's ensemble.txt lists, or the one that was given."""
    listing = Path(spec) / ENSEMBLE_FILE
    if not listing.is_file():
        return [spec]
    lines = (line.partition("#")[0].strip() for line in listing.read_text().splitlines())
    names = [line for line in lines if line]
    if not names:
        raise CheckpointError(f"{listing}: lists no checkpoint; write one path a line")
    return [n if means_pretrained(n) else str(Path(spec) / user_path(n)) for n in names]


def without_paths(member: LoadedCheckpoint) -> LoadedCheckpoint:
    """The checkpoint without what tells where data and runs lay on this machine, or patients' ids.

    What defines the run is kept, of files that it names their names; the rest (places, loggers,
    launcher) is as if it had not been given.
    """
    kept = _named(without_free(member.config.model_dump(mode="json")))
    digest = member.config.data_digest
    record = _named(member.data_record)
    return replace(
        member,
        config=validate({**kept, "run": {}, "data_digest": digest}, TrainConfig),
        data_record=record,
        trained=member.trained.hashed(),
    )


def _named(tree: Any, key: str = "") -> Any:
    """The tree with the name alone of every file and folder in it."""
    if isinstance(tree, Mapping):
        return {inner: _named(value, inner) for inner, value in tree.items()}
    if isinstance(tree, list):
        return [_named(value, key) for value in tree]
    if isinstance(tree, str) and (key in _FILES or _leads_away(tree)):
        return re.split(r"[/\\]", tree.rstrip("/\\"))[-1]
    return tree


def _leads_away(text: str) -> bool:
    return Path(text).is_absolute() or text.startswith(("~", ".."))


def export_safetensors(
    members: Sequence[LoadedCheckpoint], path: Path, *, half: bool = False
) -> None:
    """Write one model, or an ensemble, as safetensors, with config and threshold in its metadata.

    The configuration is also written beside it, as YAML for people to read (of an ensemble, a
    list of them).

    Args:
        members: the model, or the ensemble's.
        path: the file to write.
        half: parameters in half precision (see `write_archive`).
    """
    import yaml

    configs = [concealed(member.config.model_dump(mode="json")) for member in members]
    records = [
        {
            "config": config,
            "identity": member.identity,
            "threshold": member.threshold,
            "data": member.data_record,
            "epoch": member.epoch,
            PATIENTS: member.trained.record(),
        }
        for member, config in zip(members, configs, strict=True)
    ]
    weights = [member.weights for member in members]
    write_archive(path, list(zip(records, weights, strict=True)), half=half)
    readable = configs[0] if len(configs) == 1 else configs
    write_text(path.with_suffix(".yaml"), yaml.safe_dump(readable, sort_keys=False))
