"""Checkpoints: plain types only, written whole or not at all, loaded without executing code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from attnseg.config import TrainConfig, validate
from attnseg.errors import CheckpointError, ConfigError
from attnseg.files import write_atomically, write_text
from attnseg.pretrained import means_pretrained, pretrained_file
from attnseg.runs.folder import RunFolder
from attnseg.runs.preflight import no_such_checkpoint

KEY = "attnseg"  # where a checkpoint keeps what is ours: config, identity, threshold, data record
ENSEMBLE_FILE = "ensemble.txt"  # in a folder: its members, one path a line
_WEIGHTS = "model."


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
        return read_checkpoint(Path(path))


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


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a .ckpt with `weights_only=True`: nothing in it is executed.

    Raises:
        CheckpointError: unreadable, truncated, or it holds more than tensors and plain types.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def find_checkpoint(spec: str, key: str = "checkpoint") -> Path:
    """The file that `checkpoint=` (or another key) means: itself, or a run folder's best or last.

    `pretrained` is the weights that come with the package, see `attnseg.pretrained`.

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


def load_checkpoint(spec: str, key: str = "checkpoint") -> LoadedCheckpoint:
    """Load a run folder, a .ckpt or a .safetensors, named by a configuration key.

    Raises:
        CheckpointError: none there, unreadable, not made by attnseg, or of another version.
    """
    path = find_checkpoint(spec, key)
    if path.suffix == ".safetensors":
        record, weights = _read_safetensors(path)
        epoch = record.get("epoch")
    else:
        content = read_checkpoint(path)
        if not isinstance(content.get(KEY), dict) or not isinstance(
            content.get("state_dict"), dict
        ):
            raise CheckpointError(
                f"{path}: not a checkpoint of attnseg (it has no '{KEY}' record); bare weights "
                "go in as e.g. model.encoder.weights=..."
            )
        record, epoch = content[KEY], content.get("epoch")
        weights = {
            name.removeprefix(_WEIGHTS): value
            for name, value in content["state_dict"].items()
            if name.startswith(_WEIGHTS)
        }
    try:
        config = validate(record["config"], TrainConfig)
        return LoadedCheckpoint(
            path=path,
            config=config,
            weights=weights,
            threshold=float(record.get("threshold", 0.5)),
            identity=str(record.get("identity", "")),
            data_record=dict(record.get("data", {})),
            epoch=epoch,
        )
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: was made by another version of attnseg ({record.get('version')}): {error}"
        ) from None


def load_checkpoints(spec: str | Sequence[str], key: str = "checkpoint") -> list[LoadedCheckpoint]:
    """Load one checkpoint, or the members of an ensemble.

    Args:
        spec: what `load_checkpoint` takes, a list of such, or a folder whose `ensemble.txt` lists
            them, one a line (relative paths start at the folder; # begins a comment).
        key: the configuration key that named it.

    Raises:
        CheckpointError: a member cannot be loaded, or they were trained at different image sizes.
    """
    given = [spec] if isinstance(spec, str) else list(spec)
    if not given:
        raise CheckpointError(f"{key}=[]: give at least one checkpoint")
    members = [load_checkpoint(one, key) for name in given for one in _listed(name)]
    sizes = {member.config.data.size for member in members}
    if len(sizes) > 1:
        lines = [f"  - {member.path}: {member.config.data.size} px" for member in members]
        raise CheckpointError(
            "\n".join([f"{key}: an ensemble's members must share one data.size:", *lines])
        )
    return members


def _listed(spec: str) -> list[str]:
    """The checkpoints that a folder's ensemble.txt lists, or the one that was given."""
    listing = Path(spec) / ENSEMBLE_FILE
    if not listing.is_file():
        return [spec]
    lines = (line.partition("#")[0].strip() for line in listing.read_text().splitlines())
    names = [line for line in lines if line]
    if not names:
        raise CheckpointError(f"{listing}: lists no checkpoint; write one path a line")
    return [n if means_pretrained(n) else str(Path(spec) / Path(n).expanduser()) for n in names]


def export_safetensors(checkpoint: LoadedCheckpoint, path: Path) -> None:
    """Write the weights as safetensors, with config and threshold in its metadata.

    The configuration is also written beside it, as YAML for people to read.
    """
    import yaml
    from safetensors.torch import save

    record = {
        "config": checkpoint.config.model_dump(mode="json"),
        "identity": checkpoint.identity,
        "threshold": checkpoint.threshold,
        "data": checkpoint.data_record,
        "epoch": checkpoint.epoch,
    }
    weights = {name: value.contiguous() for name, value in checkpoint.weights.items()}
    blob = save(weights, metadata={KEY: json.dumps(record)})
    write_atomically(path, lambda stream: stream.write(blob))
    text = yaml.safe_dump(checkpoint.config.model_dump(mode="json"), sort_keys=False)
    write_text(path.with_suffix(".yaml"), text)


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as archive:
            metadata = archive.metadata() or {}
            weights = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from None
    if KEY not in metadata:
        raise CheckpointError(f"{path}: not exported by attnseg (its metadata has no '{KEY}')")
    try:
        return dict(json.loads(metadata[KEY])), weights
    except ValueError as error:
        raise CheckpointError(f"{path}: its '{KEY}' metadata cannot be read: {error}") from None
