"""Volumes a minute of `attnseg drr` on two processes, renderer beside renderer, in one run.

    python benchmarks/drr_speed.py --ct ../shared/data/lidc_ct/LIDC-IDRI-0001_ct.nii.gz

Every renderer that is installed takes its turn (builtin, nanodrr, diffdrr) with the same CT,
rays and detector, whole command included: reading, projecting, display, writing. Beside it: the
line integrals alone, in CPU seconds of one thread. Ratios within a turn hold better than figures:
the machine may be shared. DiffDRR: see pyproject.toml for how to install it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from step_cost import machine  # noqa: E402

from attnseg.common.errors import ConfigError  # noqa: E402
from attnseg.config import DrrConfig  # noqa: E402
from attnseg.config.compose import compose_checked  # noqa: E402
from attnseg.imaging.drr.batch import project_all  # noqa: E402
from attnseg.imaging.drr.geometry import build_geometry  # noqa: E402
from attnseg.imaging.drr.reading import read_ct  # noqa: E402
from attnseg.imaging.drr.renderers import find_renderer  # noqa: E402
from attnseg.imaging.drr.views import optical_depth  # noqa: E402

RENDERERS = ("builtin", "nanodrr", "diffdrr")


def configuration(args: argparse.Namespace, projection: str, renderer: str, cts: Path, out: Path
                  ) -> DrrConfig:  # fmt: skip
    words = [f"ct={cts}", f"out={out}", f"projection={projection}", "n_pictures=0",
             f"projection.renderer={renderer}", f"workers={args.workers}",
             "progress_bar=false"]  # fmt: skip
    if projection == "cone_beam":
        pixel = 430.0 / args.detector
        words += [f"projection.detector.size=[{args.detector},{args.detector}]",
                  f"projection.detector.pixel_mm={pixel}"]  # fmt: skip
    return compose_checked("drr", words, DrrConfig)


def whole_command(args: argparse.Namespace, projection: str, renderer: str, folder: Path) -> float:
    """Volumes a minute."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    config = configuration(args, projection, renderer, folder / "ct", out)
    start = time.perf_counter()
    summary = project_all(config)
    assert summary.n_projected == args.volumes, summary.failures
    return 60.0 * args.volumes / (time.perf_counter() - start)


def integrals(args: argparse.Namespace, renderer: str, folder: Path) -> Callable[[], Any]:
    """The line integrals of one cone-beam view, and nothing else."""
    config = configuration(args, "cone_beam", renderer, folder, folder)
    ct = read_ct(args.ct)
    geometry = build_geometry(config.projection, config.projection.views[0], ct)
    return lambda: optical_depth(ct, geometry, config.projection, chunk_mb=args.chunk_mb)


def installed() -> list[str]:
    found = []
    for name in RENDERERS:
        try:
            find_renderer(name)
            found.append(name)
        except ConfigError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ct", type=Path, required=True)
    parser.add_argument("--volumes", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--detector", type=int, default=256, help="pixels of a side, of 430 mm")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chunk-mb", type=int, default=32)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    names = installed()
    rates: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    pictures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ct").mkdir()
        for number in range(args.volumes):
            shutil.copy(args.ct, folder / "ct" / f"v{number}.nii.gz")
        for turn in range(args.repeats):
            for renderer in names:
                render = integrals(args, renderer, folder)
                start = time.process_time()  # of the CPU: others' load does not count
                pictures[renderer] = render()
                seconds[renderer].append(time.process_time() - start)
                rate = whole_command(args, "cone_beam", renderer, folder)
                rates.setdefault(f"cone_beam, {renderer}", []).append(rate)
            rate = whole_command(args, "lidc_drr", "builtin", folder)
            rates.setdefault("lidc_drr, builtin", []).append(rate)
            print(f"turn {turn + 1} of {args.repeats}", file=sys.stderr, flush=True)
    report(args, rates, seconds, pictures)


def report(
    args: argparse.Namespace,
    rates: dict[str, list[float]],
    seconds: dict[str, list[float]],
    pictures: dict[str, Any],
) -> None:
    print(f"{args.volumes} volumes, {args.workers} processes, {args.detector}^2 px; {machine()}\n")
    print(f"{'whole command':28}{'volumes/min':>14}{'min-max':>16}{'against it':>14}")
    base = rates["cone_beam, builtin"]
    for name, values in rates.items():
        ratio = statistics.median(b / v for b, v in zip(base, values, strict=True))
        spread = f"{min(values):.1f}-{max(values):.1f}"
        against = f"{ratio:.2f} x" if name.startswith("cone") else ""
        print(f"{name:28}{statistics.median(values):14.1f}{spread:>16}{against:>14}")
    print(f"\n{'line integrals alone':28}{'CPU seconds':>14}{'min-max':>16}{'builtin is':>14}"
          f"{'correlation':>14}")  # fmt: skip
    for name, values in seconds.items():
        ratio = statistics.median(v / b for b, v in zip(seconds["builtin"], values, strict=True))
        same = np.corrcoef(pictures[name].ravel(), pictures["builtin"].ravel())[0, 1]
        spread = f"{min(values):.2f}-{max(values):.2f}"
        print(f"{name:28}{statistics.median(values):14.2f}{spread:>16}{ratio:12.1f} x{same:14.5f}")
    if args.json:
        figures = {"machine": machine(), "rates": rates, "seconds": seconds}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
