"""Weights as safetensors: one model, or an ensemble in one file, in single or half precision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnseg.common.errors import CheckpointError
from attnseg.common.files import write_atomically

KEY = "attnseg"  # where files keep what is ours: config, identity, threshold, data record
DIGEST = "attnseg.sha256"  # of the record, and of the tensors; files of older versions have none
_MEMBERS = "members"  # of an ensemble: the records; the tensors of the k-th begin with "k."

Model = tuple[dict[str, Any], dict[str, Tensor]]  # a record and weights


def write_archive(path: Path, models: Sequence[Model], *, half: bool = False) -> None:
    """Write one model, or an ensemble, whole or not at all.

    Args:
        path: the file.
        models: record (what JSON can hold) and weights of each.
        half: parameters as float16, half the size and 3 to 4 digits; the running statistics of
            norms, whose range is wide, stay as they are.
    """
    from safetensors.torch import save

    single = len(models) == 1
    record = models[0][0] if single else {_MEMBERS: [record for record, _ in models]}
    tensors = {
        name if single else f"{index}.{name}": _stored(value, half=half and not _wide(name))
        for index, (_, weights) in enumerate(models)
        for name, value in weights.items()
    }
    text = json.dumps(record)
    blob = save(
        tensors,
        metadata={KEY: text, DIGEST: f"{_digest_of_text(text)} {_digest_of_tensors(tensors)}"},
    )
    write_atomically(path, lambda stream: stream.write(blob))


def _wide(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var"))


def _stored(value: Tensor, *, half: bool) -> Tensor:
    shrink = half and value.dtype in (torch.float32, torch.float64)
    # A copy, as safetensors refuses tensors that share memory (tied weights, a member twice).
    return (value.half() if shrink else value.clone()).contiguous()


def read_archive(path: Path) -> list[Model]:
    """Record and weights of each model, in single precision.

    Raises:
        CheckpointError: no safetensors, not written by attnseg, or damaged since.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from None
    record, members = _records(path, metadata)
    _refuse_damaged(path, metadata, 1, _digest_of_tensors(tensors))
    tensors = {name: v.float() if v.dtype == torch.float16 else v for name, v in tensors.items()}
    if not members:
        return [(record, tensors)]
    return [(one, _of_member(index, tensors)) for index, one in enumerate(members)]


def archive_records(path: Path) -> list[dict[str, Any]]:
    """The record of each model, without reading a tensor; none where attnseg did not write it.

    Raises:
        CheckpointError: no safetensors, or the record cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as archive:
            metadata = archive.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from None
    if KEY not in metadata:
        return []
    record, members = _records(path, metadata)
    return members or [record]


def _records(path: Path, metadata: dict[str, str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record, and those of an ensemble's members."""
    if KEY not in metadata:
        raise CheckpointError(f"{path}: not exported by attnseg (its metadata has no '{KEY}')")
    _refuse_damaged(path, metadata, 0, _digest_of_text(metadata[KEY]))
    try:
        record = dict(json.loads(metadata[KEY]))
        return record, [dict(one) for one in record.get(_MEMBERS, [])]
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its '{KEY}' metadata cannot be read: {error}") from None


def _of_member(index: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{index}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _refuse_damaged(path: Path, metadata: Mapping[str, str], which: int, digest: str) -> None:
    """Refuse a file whose record (0) or tensors (1) are not those that were written."""
    if DIGEST in metadata and metadata[DIGEST].split(" ")[which:][:1] != [digest]:
        raise CheckpointError(
            f"{path}: is damaged, it does not hold what was exported (its SHA-256 is another); "
            "copy or export it once more"
        )


def _digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    shapes = [f"{name} {v.dtype} {list(v.shape)}" for name, v in sorted(tensors.items())]
    return _digest_of_text("\n".join([*shapes, digest_of_weights(tensors)]))


def digest_of_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values, wherever the tensors lie."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
