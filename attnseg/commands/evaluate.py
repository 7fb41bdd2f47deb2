"""`attnseg evaluate`: measure a checkpoint on a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attnseg.commands.help import CHECKPOINT_OVERRIDES, command_help, show, wants_help
from attnseg.evaluation.job import measure, prepare

OVERRIDES = (
    *CHECKPOINT_OVERRIDES,
    ("split=all", "all | train | val | test (default val)"),
    ("data=lidc_drr data.root=PATH", "other data than it was trained on"),
    ("data.size=512", "measure on this grid; the model sees the size it was trained at"),
    ("output_dir=OUT", "default: evaluate/<split> in the run folder"),
    ("threshold=0.5", "default: the one chosen on the checkpoint's validation split"),
    ("tta=flip mc_dropout=10", "test-time augmentation, and passes with dropout on"),
    ("logger=wandb", "send the figures to the W&B run of the training"),
    ("batch_size=4 accelerator=cpu", "how to compute"),
)


_SHOWN = (
    "attention_gt_overlap",
    "seg_gt_overlap",
    "attention_seg_corr",
    "attention_gt_distance",
    "pointing_game",
    "dice_positive",
    "dice_global",
    "dice_original",
    "froc_sensitivity_at_1",
    "false_positive_lesions_per_negative",
)


def main(argv: Sequence[str]) -> int:
    """Write metrics.json, tables of cases and lesions, pictures. Returns the exit code."""
    arguments = list(argv)
    if wants_help(arguments):
        purpose = "measure a checkpoint on a data set"
        return show(command_help("evaluate", purpose, ("data", "logger"), OVERRIDES))
    job = prepare("evaluate", arguments)
    result = measure(job)
    print_summary(result.summary, job.config.split)
    print(f"results: {job.output_dir}")
    if job.config.logger.wandb:
        from attnseg.training.loggers.sync import send_evaluation

        print(f"W&B: {send_evaluation(job.members[0].path, job.output_dir)}")
    return 0


def print_summary(summary: Mapping[str, object], split: str) -> None:
    """A table of the figures users look at first."""
    from rich.console import Console
    from rich.table import Table

    from attnseg.reports.style import TARGETS

    title = f"{split} split, {summary['n_cases']} cases, {summary['n_positive']} positive"
    table = Table("metric", "value", "wanted", title=title)
    for name in _SHOWN:
        value = summary.get(name)
        text = f"{value:.4f}" if isinstance(value, float) else str(value)
        table.add_row(name, text, TARGETS[name].aim if name in TARGETS else "")
    Console().print(table)
