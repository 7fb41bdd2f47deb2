"""The door: `attnseg COMMAND key=value ...`. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from attnseg.common.credentials import concealed
from attnseg.common.errors import (
    FAILED,
    INTERRUPTED,
    USER_MISTAKE,
    UserError,
    WriteError,
    wrong_path,
)
from attnseg.common.project import activate
from attnseg.common.signals import heeded, outlive_readers

COMMANDS = {
    "train": "train a model; ends with a run folder (metrics, checkpoints, report)",
    "evaluate": "measure a checkpoint on a data set (metrics.json, cases.csv, pictures)",
    "analyze": "say in words what is wrong with a model's attention, with the numbers behind it",
    "compare": "runs or sweeps beside one another: tables, intervals, pictures, one page",
    "runs": "what is on the disk: list it, show one, prune what is not needed",
    "report": "a run's report anew, from its folder alone",
    "predict": "images (DICOM, PNG, NIfTI, MHA) to masks, attention, lesions and a page",
    "export": "write a checkpoint as safetensors, ExportedProgram or ONNX",
    "sync": "send offline runs to Weights & Biases, each as one whole run",
    "data": "check or show a data set, make a case set of one, annotations to mask volumes",
    "new": "a small project of your own: an attention, a loss term, a curve, an experiment",
    "trust": "use the conf/ and the package of a folder of your own",
    "drr": "project CTs and nodule masks to DRRs (radiographs) and their masks",
}


def usage() -> str:
    """The text of `attnseg --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "attnseg: supervised attention for lung-nodule segmentation",
            "",
            "usage: attnseg COMMAND [key=value ...]",
            "",
            *lines,
            "",
            "`attnseg COMMAND --help` shows its config groups and common overrides.",
            "Configuration is Hydra's: group=option, key=value, -m for a sweep, --cfg job.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done, 1 failed, 2 the user's mistake (one message, no traceback), 128 + the signal's
        number where one interrupted it (Ctrl-C: 130; a training: 75).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be text
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    command, *rest = arguments
    if command == "--version":
        from attnseg import __version__

        print(__version__)
        return 0
    if command not in COMMANDS:
        print(f"attnseg: no command '{command}'\n\n{usage()}", file=sys.stderr)
        return USER_MISTAKE
    sys.argv = concealed(sys.argv)  # what loggers record of a process
    try:
        if command not in ("new", "trust") and (note := activate()):
            print(f"note: {note}", file=sys.stderr)
        module = importlib.import_module(f"attnseg.commands.{command}")
        code = int(module.main(rest))
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"attnseg {command}: {error}", file=sys.stderr)
        return USER_MISTAKE
    except BrokenPipeError:  # the reader has seen enough: `attnseg runs list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as request:
        number = request.args[0] if request.args else signal.SIGINT
        print(f"attnseg {command}: interrupted ({signal.Signals(number).name})", file=sys.stderr)
        return INTERRUPTED if command == "train" else 128 + number
    except (OSError, RuntimeError) as error:
        if (told := wrong_path(error)) is None:
            raise
        print(f"attnseg {command}: {told}", file=sys.stderr)
        return FAILED if isinstance(error, WriteError) else USER_MISTAKE


def entry() -> NoReturn:
    """What the shell starts: `main`, with no moment at which a signal is not understood.

    A training hears them itself; this is for the seconds in which torch is imported, and for
    those after the run has ended, when nothing is left to interrupt. To the other commands every
    one of them is a Ctrl-C.
    """
    trains = sys.argv[1:2] == ["train"]
    signals = [each for each in heeded(signal.SIGUSR1) if each != signal.SIGINT]
    for number in signals:
        if trains or number != signal.SIGUSR1:
            signal.signal(number, _stop_early if trains else _interrupt)
    code = main()
    for number in signals:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _stop_early(number: int, frame: FrameType | None) -> NoReturn:
    outlive_readers()
    print(f"{signal.Signals(number).name}: stopped before the first step", flush=True)
    sys.exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    outlive_readers()
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    entry()
