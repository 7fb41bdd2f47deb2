"""What `evaluate` and `analyze` share: a checkpoint, a data set, and the pass over it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnseg.build import build_metrics
from attnseg.common.errors import CheckpointError, DataError
from attnseg.common.files import make_folder
from attnseg.common.memory import ready_device
from attnseg.config import AnalyzeConfig, DataConfig, EvaluateConfig, TrainConfig, validate
from attnseg.config.component import TARGET
from attnseg.config.compose import compose
from attnseg.config.environment import from_environment
from attnseg.config.grammar import assignment
from attnseg.config.trust import refuse_untrusted_metric, refuse_untrusted_source
from attnseg.runs.code import changed_files, code_of, listed
from attnseg.runs.content import write_content
from attnseg.runs.identity import defining_keys
from attnseg.runs.patients import KEY as PATIENTS
from attnseg.runs.patients import TrainedPatients

if TYPE_CHECKING:
    from attnseg.config.component import Component
    from attnseg.data.datamodule import AttnSegDataModule
    from attnseg.evaluation.engine import EvaluationResult
    from attnseg.inference.predictor import PassOptions
    from attnseg.runs.checkpoints import LoadedCheckpoint


_PLACES = ("root", "table", "scans_csv")  # keys of a data section that say where it lies


@dataclass(frozen=True)
class Job:
    """One measurement to make."""

    config: EvaluateConfig
    data: DataConfig
    members: tuple[LoadedCheckpoint, ...]  # one, or those of an ensemble
    output_dir: Path

    @property
    def checkpoint(self) -> LoadedCheckpoint:
        """The one, or an ensemble's first: its data is measured on."""
        return self.members[0]

    @property
    def measured(self) -> TrainConfig:
        """The checkpoint's configuration with the data that are measured on."""
        return self.checkpoint.config.model_copy(update={"data": self.data})

    @property
    def passes(self) -> PassOptions:
        """Test-time augmentation and MC dropout."""
        from attnseg.inference.predictor import PassOptions

        return PassOptions(self.config.tta, self.config.mc_dropout, self.config.seed)

    @property
    def trained(self) -> TrainedPatients:
        """The patients that ever trained a member."""
        return TrainedPatients().union(*(member.trained for member in self.members))

    @property
    def plain(self) -> bool:
        """Whether the model alone is measured, as training's validation does."""
        return self.passes.plain and len(self.members) == 1


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        metrics: as metrics.json has them: every metric (metrics_definitions.json says unit and
            meaning), `n_cases`, and what was measured.
        folder: with the tables of cases and lesions, and pictures.
    """

    metrics: dict[str, Any]
    folder: Path


def evaluate(
    checkpoint: str | Path | Sequence[str | Path],
    split: str = "val",
    overrides: Sequence[str] = (),
    *,
    trust: Sequence[str] = (),
) -> Evaluation:
    """Measure a run, a checkpoint or an ensemble, as `attnseg evaluate` does.

    Args:
        checkpoint: as `attnseg.load` takes it.
        split: all, train, val or test.
        overrides: further words of the command: `["data=lidc_drr", "data.root=PATH", "tta=flip"]`.
        trust: packages whose classes the checkpoint may name.

    Raises:
        ConfigError, CheckpointError, DataError: as the command.
    """
    spec = [str(one) for one in checkpoint] if isinstance(checkpoint, list | tuple) else None
    words = [
        assignment("checkpoint", spec or str(checkpoint)),
        assignment("split", split),
        assignment("trust", list(trust)),
        *overrides,
    ]
    job = prepare("evaluate", words)
    measure(job)
    return Evaluation(json.loads((job.output_dir / "metrics.json").read_text()), job.output_dir)


def prepare(command: str, arguments: Sequence[str]) -> Job:
    """Compose and check the command, load the checkpoint, settle which data to use.

    Raises:
        ConfigError: a wrong key or value.
        CheckpointError: no checkpoint, or none that can be used.
    """
    kind = AnalyzeConfig if command == "analyze" else EvaluateConfig
    plain = compose(command, arguments, kind)
    given = plain.pop("data", None)
    config = validate({**plain, "data": None}, kind, imports=True)
    from attnseg.inference.predictor import grid_of
    from attnseg.runs.checkpoints import load_checkpoints

    members = load_checkpoints(config.checkpoint, trust=config.trust)
    checkpoint = members[0]
    trained_on = _data_of(checkpoint) | {"size": grid_of(members)}
    data = merge_data(trained_on, given, arguments)
    named = bool(given) and TARGET in given  # at the keyboard
    if not named:
        refuse_untrusted_source(data, config.trust, checkpoint.path)
    config = validate({**plain, "data": data, "metrics": config.metrics}, kind, imports=named)
    assert config.data is not None
    job = Job(config, config.data, tuple(members), Path())
    name = f"{config.data.name}-{config.split}{_passes_name(job)}"
    default = results_home(config.checkpoint, members) / command / name
    return replace(job, output_dir=Path(config.output_dir or default))


def _data_of(checkpoint: LoadedCheckpoint) -> dict[str, Any]:
    """The data that a checkpoint was trained on, where this environment has it."""
    data = dict(from_environment(checkpoint.config.data.model_dump(mode="json")))
    unknown = "${oc." in str(data["cache_dir"])
    return data | ({"cache_dir": None} if unknown else {})


def results_home(spec: str | Sequence[str], members: Sequence[LoadedCheckpoint]) -> Path:
    """Where results go that nobody gave a place: the run folder, an ensemble's own folder.

    The package's folder is no such place, so `pretrained` has one under runs/.
    """
    from attnseg.runs.checkpoints import ENSEMBLE_FILE
    from attnseg.runs.pretrained import means_pretrained

    if isinstance(spec, str):
        if (Path(spec) / ENSEMBLE_FILE).is_file():
            return Path(spec)
        if means_pretrained(spec) and not Path(spec).exists():
            return Path("runs") / spec.replace(":", "-")
    elif len(members) > 1:
        identities = "".join(str(member.path) for member in members)
        digest = hashlib.sha256(identities.encode()).hexdigest()[:8]
        return Path("runs") / f"ensemble-{digest}"
    home = members[0].path.parent
    return home.parent if home.name == "checkpoints" else home


def _passes_name(job: Job) -> str:
    """What is added to the folder's name, so that plain results are never written over."""
    passes = job.passes
    words: list[str] = [passes.tta] if passes.tta != "none" else []
    words += [f"mc{passes.mc_dropout}"] if passes.mc_dropout else []
    return "".join(f"-{word}" for word in words)


def merge_data(
    trained_on: dict[str, Any], given: dict[str, Any] | None, arguments: Sequence[str]
) -> dict[str, Any]:
    """The data configuration to measure on.

    The checkpoint's own, with single keys changed by `data.key=value`; another source where
    `data=` names one, measured at the image size that the checkpoint was trained at unless
    `data.size=` says otherwise (the model itself always sees the size it was trained at).
    """
    explicit = [a.lstrip("+").split("=", 1)[0] for a in arguments if "=" in a]
    keys = [key.removeprefix("data.").split(".") for key in explicit if key.startswith("data.")]
    if not given:
        return trained_on
    other = _source_in(given) not in (None, _source_in(trained_on))
    merged = given if other else trained_on
    if other:
        if ["size"] not in keys:
            merged = {**merged, "size": trained_on["size"]}
        return merged
    for path in keys:
        merged = _with(merged, path, _at(given, path))
    return merged


def _source_in(data: Mapping[str, Any]) -> Any:
    """Which source a data section names."""
    return data.get(TARGET) or data.get("name")


def _at(node: Any, path: Sequence[str]) -> Any:
    for key in path:
        node = node[key]
    return node


def _with(node: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    if not rest:
        return {**node, first: value}
    inner = node.get(first)
    return {**node, first: _with(inner if isinstance(inner, dict) else {}, rest, value)}


def measure(job: Job, description: str | None = None) -> EvaluationResult:
    """Run the model over the split; write metrics.json, the tables of cases and lesions, pictures.

    Args:
        job: what to measure.
        description: beside the progress bar; None: the split.

    Raises:
        DataError: the split holds no case.
        CheckpointError: the weights are of another model than the checkpoint's config names.
    """
    import torch
    from rich.progress import track

    from attnseg.data.datamodule import AttnSegDataModule
    from attnseg.data.file_digests import digests_of
    from attnseg.evaluation.engine import evaluate_batches, write_results
    from attnseg.evaluation.lesion_tables import LesionTables
    from attnseg.evaluation.pictures import draw_gallery
    from attnseg.inference.predictor import predictor_of, threshold_of
    from attnseg.reports.froc import draw_froc

    config, checkpoint = job.config, job.checkpoint
    weights = digests_of([member.path for member in job.members])
    model = predictor_of(job.members, job.passes)
    module = AttnSegDataModule(job.measured)
    loader = module.eval_dataloader(config.split, batch_size=config.batch_size)
    if not len(loader):
        raise DataError(
            f"the {config.split} split of data={job.data.name} holds no case; "
            "choose another split (split=all)"
        )
    device = ready_device(config.accelerator)
    make_folder(job.output_dir, "output_dir")
    content = module.content_of(module.cases(config.split))
    threshold = threshold_of(job.members, config.threshold)
    tables = LesionTables()
    result = evaluate_batches(
        model,
        track(loader, description=description or f"{config.split} split", total=len(loader)),
        threshold=threshold,
        device=device,
        on_case=tables.add,
        named=build_metrics(_metrics(job)),
    )
    trained = job.trained
    n_seen = sum(row["patient_id"] in trained for row in result.cases)
    about: dict[str, Any] = {
        "split": config.split,
        "checkpoint": str(checkpoint.path),
        "checkpoint_epoch": checkpoint.epoch,
        "run_id": checkpoint.identity,
        "as_trained": config.threshold is None and job.plain and _same_data(job, module),
        "n_cases_seen_in_training": n_seen,
        PATIENTS: trained.record(),
        "data": {**module.source.record, "digest": content.digest},
        "weights": weights,
    }
    about["threads"] = torch.get_num_threads()
    if changed := _changed_code(job):
        about["changed_code"] = changed
        print(f"note: the code has changed since it was trained: {listed(changed)}")
    if not job.plain:
        about["members"] = [str(member.path) for member in job.members]
        about["run_ids"] = [member.identity for member in job.members]
        about |= {"tta": config.tta, "mc_dropout": config.mc_dropout, "seed": config.seed}
    tables.write(job.output_dir)
    write_content(job.output_dir / "content.json", content)
    write_results(result, job.output_dir, about)
    draw_froc(job.output_dir, len(result.cases))
    draw_gallery(job, model, module, result.cases, threshold)
    if n_seen:
        print(f"note: {n_seen} of {len(result.cases)} cases are of patients it was trained on")
    return result


def _metrics(job: Job) -> dict[str, Component]:
    """Those that the command names, and the training's that may be made."""
    found = dict(job.config.metrics)
    for name, metric in job.checkpoint.config.metrics.items():
        if name in found:
            continue
        try:
            refuse_untrusted_metric(metric, job.config.trust, f"metrics.{name}")
        except CheckpointError as error:
            print(f"note: not measured: {error}")
        else:
            found[name] = metric
    return found


def _changed_code(job: Job) -> list[str]:
    """The files of a model's code that are not what they were when it was trained."""
    then = [(member.code, code_of(member.config)) for member in job.members if member.code]
    return sorted({file for code, now in then for file in changed_files(code, now)})


def measure_training(
    job: Job, held_out: Sequence[Mapping[str, Any]], count: int
) -> EvaluationResult | None:
    """Measure cases that trained every member, as they are, beside those that trained none.

    Writes metrics.json and cases.csv to training/ in the job's folder.

    Args:
        job: what was measured.
        held_out: its rows of cases.csv.
        count: at most so many cases, spread evenly over those that trained it.

    Returns:
        None where the measured cases trained a member, or it is not the data that trained them.
    """
    from rich.progress import track

    from attnseg.data.datamodule import AttnSegDataModule
    from attnseg.evaluation.engine import evaluate_batches, write_results
    from attnseg.inference.predictor import predictor_of, threshold_of

    folder = job.output_dir / "training"
    for name in ("metrics.json", "metrics_definitions.json", "cases.csv"):  # of an earlier analysis
        (folder / name).unlink(missing_ok=True)
    if not count or any(row["patient_id"] in job.trained for row in held_out):
        return None
    module = AttnSegDataModule(job.measured)
    fingerprints = {member.data_record.get("fingerprint") for member in job.members}
    if fingerprints != {module.fingerprint}:  # other data, which may use the same patient ids
        return None
    sets = [member.trained for member in job.members]
    cases = [case for case in module.all_cases if all(case.patient_id in one for one in sets)]
    if not cases:
        return None
    count = min(count, len(cases))
    chosen = [cases[index * len(cases) // count] for index in range(count)]
    loader = module.loader_of(chosen, batch_size=job.config.batch_size)
    result = evaluate_batches(
        predictor_of(job.members, job.passes),
        track(loader, description="training cases", total=len(loader)),
        threshold=threshold_of(job.members, job.config.threshold),
        device=ready_device(job.config.accelerator),
    )
    names = {"checkpoint": [str(member.path) for member in job.members]}
    write_results(result, folder, {"split": "train", "n_training_cases": len(cases), **names})
    return result


def _same_data(job: Job, module: AttnSegDataModule) -> bool:
    """Whether it is the data that the run was trained with, wherever the files lie now.

    In the same place they may have changed since; in another they must be the same.
    """
    ours, trained = job.data.model_dump(), job.checkpoint.config.data.model_dump()
    if defining_keys({"data": ours}) != defining_keys({"data": trained}):
        return False
    digest = job.checkpoint.data_record.get("digest")
    if digest is None or all(ours.get(key) == trained.get(key) for key in _PLACES):
        return True
    try:
        return bool(module.content.digest == digest)
    except DataError:  # of the cases that trained it some are not there
        return False
