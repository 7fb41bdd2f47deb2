"""Weights as safetensors: one model, or an ensemble in one file, in single or half precision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnseg.errors import CheckpointError
from attnseg.files import write_atomically

KEY = "attnseg"  # where files keep what is ours: config, identity, threshold, data record
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
    blob = save(tensors, metadata={KEY: json.dumps(record)})
    write_atomically(path, lambda stream: stream.write(blob))


def _wide(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var"))


def _stored(value: Tensor, *, half: bool) -> Tensor:
    shrink = half and value.dtype == torch.float32
    # A copy, as safetensors refuses tensors that share memory (tied weights, a member twice).
    return (value.half() if shrink else value.clone()).contiguous()


def read_archive(path: Path) -> list[Model]:
    """Record and weights of each model, in single precision.

    Raises:
        CheckpointError: no safetensors, or not written by attnseg.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from None
    record, members = _records(path, metadata)
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
    try:
        record = dict(json.loads(metadata[KEY]))
        return record, [dict(one) for one in record.get(_MEMBERS, [])]
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its '{KEY}' metadata cannot be read: {error}") from None


def _of_member(index: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{index}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
