"""`attnseg analyze`: the attention-segmentation analyser."""

from __future__ import annotations

from collections.abc import Sequence

from attnseg.commands.evaluate import OVERRIDES
from attnseg.commands.help import command_help, show, wants_help
from attnseg.config import AnalyzeConfig
from attnseg.evaluation.job import measure, measure_training, prepare

_OWN = (("train_cases=0", "do not measure cases that trained it beside a held-out split"),)


def main(argv: Sequence[str]) -> int:
    """Measure, say in words what is wrong, draw the worst and best cases."""
    arguments = list(argv)
    if wants_help(arguments):
        purpose = "say what is wrong between attention, segmentation and ground truth"
        return show(command_help("analyze", purpose, ("data",), (*OVERRIDES, *_OWN)))
    from attnseg.reports.diagnosis import diagnose
    from attnseg.reports.page import write_analysis_report

    job = prepare("analyze", arguments)
    result = measure(job)
    assert isinstance(job.config, AnalyzeConfig)
    training = measure_training(job, result.cases, job.config.train_cases)
    findings = diagnose(result.summary, result.cases, training.cases if training else ())
    for finding in findings:
        print(f"[{finding.severity}] {finding.title}\n    {finding.explanation}")
        if finding.advice:
            print(f"    {finding.advice}")
    page = write_analysis_report(job.output_dir, findings)
    print(f"report: {page}")
    return 0
