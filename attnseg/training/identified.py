"""What a run has to look up before it has an id: the content of its data, weights and parents."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from attnseg.config import TrainConfig
from attnseg.runs.identity import weight_files


def identified(config: TrainConfig, digests: dict[str, str] | None = None) -> TrainConfig:
    """The configuration with `origin` and the digests filled in, without which it has no id yet.

    Args:
        config: of a run.
        digests: of data sections by their JSON, and of files of weights by their path; what is
            computed is added.

    Raises:
        ConfigError, CheckpointError: `fork` or `warmstart` names nothing.
        DataError: the data cannot be read.
    """
    if config.fork is not None or config.warmstart is not None:
        from attnseg.training.origin import with_origin  # brings torch along

        config = with_origin(config)
    digests = {} if digests is None else digests
    if config.weights_digest is None and (found := _weights_digest(config, digests)):
        config = config.model_copy(update={"weights_digest": found})
    if config.data_digest is not None:
        return config
    from attnseg.data.digest import digest_of
    from attnseg.training.group import first_of_group

    section = config.data.model_dump_json()
    if section not in digests:
        digests[section] = digest_of(config.data, progress=first_of_group())
    return config.model_copy(update={"data_digest": digests[section]})


def _weights_digest(config: TrainConfig, digests: dict[str, str]) -> str | None:
    """16 hex digits of the files of initial weights; None where there are none to be read."""
    parts = []
    for dotted, name in weight_files(config).items():
        path = Path(name).expanduser()
        if not path.is_file():  # who loads them says so
            continue
        if name not in digests:
            with path.open("rb") as stream:
                digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
        parts.append([dotted, digests[name]])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16] if parts else None
