"""What a data set of 100, 10,000 or 100,000 cases costs before a network sees it.

    python benchmarks/data_scale.py                        # 100, 1,000 and 10,000 cases
    python benchmarks/data_scale.py --counts 100 10000 100000 --layout lidc_drr --link-cache
    python benchmarks/data_scale.py --counts 1000 10000 100000 --digest       # the digest alone

Tiny files (32 x 32 px: what is measured is everything but the pixels), each count in processes of
its own: one decodes into an empty cache, then another starts on the filled one, as every later
start does. With --link-cache only the pictures that differ are decoded, and the other entries are
links to theirs: decoding 100,000 cases takes most of an hour, and is linear. Microseconds of
processor time a case, a stage; near linear means that they do not grow with the count. The last
line is what the listing, the cache's bookkeeping and the order take of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

STAGES = (
    "decode into the cache",
    "list",
    "sound and in order",
    "split by patient",
    "fingerprint of the set",
    "digest, every file read",
    "digest, a later start",
    "content.json is written",
    "cache is warm",
    "count positives",
    "build the loader",
    "order of an epoch",
    "decoded cases read",
    "data check",
)
ORDERS = 3


def stages(
    layout: str, root: Path, cache: Path, *, cold: bool, check: bool, link: bool, digest: bool
) -> dict[str, float]:
    """Seconds of processor time a stage, in this process."""
    from attnseg.config import TrainConfig
    from attnseg.config.compose import compose_checked
    from attnseg.data.check import check_data
    from attnseg.data.datamodule import AttnSegDataModule

    words = [f"data={layout}", f"data.root={root}", "data.size=32", f"data.cache_dir={cache}"]
    config = compose_checked("train", words, TrainConfig)
    seconds: dict[str, float] = {}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        start = processor_seconds()
        value = function()
        seconds[name] = processor_seconds() - start
        return value

    module = timed("list", lambda: AttnSegDataModule(config, progress=False))
    timed("sound and in order", lambda: module.all_cases)
    before = peak_mib()
    if digest:
        timed("split by patient", lambda: module.splits)
        name = "digest, every file read" if cold else "digest, a later start"
        content = timed(name, lambda: module.content)
        if not cold:
            from attnseg.runs.content import write_content

            timed("content.json is written", lambda: write_content(cache / "c.json", content))
        seconds["_mib"], seconds["_mib_before"] = peak_mib(), before
        return seconds
    if cold and link:
        link_entries(module.cache, module.all_cases)
    elif cold:
        timed("decode into the cache", module.prepare_data)
    if cold:
        if check:
            timed("data check", lambda: check_data(config.data, progress=False))
        return seconds
    timed("split by patient", lambda: module.splits)
    timed("fingerprint of the set", lambda: module.fingerprint)
    timed("cache is warm", lambda: (module.prepare_data(), module.setup("fit")))
    timed("count positives", lambda: module.record)
    loader = timed("build the loader", module.train_dataloader)

    def orders() -> None:
        for epoch in range(ORDERS):
            loader.sampler.set_epoch(epoch)
            sum(1 for _ in loader.sampler)

    timed("order of an epoch", orders)
    seconds["order of an epoch"] /= ORDERS
    cases = module.splits.train

    def read() -> None:
        for case in cases:
            module.cache.get(case)

    timed("decoded cases read", read)
    seconds["decoded cases read"] *= len(module.all_cases) / len(cases)
    seconds["_mib"], seconds["_mib_before"] = peak_mib(), before
    return seconds


def link_entries(cache: Any, cases: list[Any]) -> None:
    """Fill the cache: the first cases decoded, the others as links to them."""
    from synthetic_set import DISTINCT

    cache.warm(cases[:DISTINCT], progress=False)
    for index, case in enumerate(cases[DISTINCT:]):
        path = cache._path(case)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(cache._path(cases[index % DISTINCT]), path)


def processor_seconds() -> float:
    """Of this process and of the workers that have ended; a busy machine does not stretch it."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(args: argparse.Namespace, count: int, work: Path) -> dict[str, float]:
    """Both processes of one count; microseconds a case and stage."""
    from synthetic_set import write_lidc_layout, write_manifest

    writer = write_lidc_layout if args.layout == "lidc_drr" else write_manifest
    root = writer(work / f"set-{count}", count, 32)
    found: dict[str, float] = {}
    for part in ("cold", "warm"):
        flags = ["--skip-check"] * args.skip_check + ["--link-cache"] * args.link_cache
        flags += ["--digest"] * args.digest
        flags += ["--layout", args.layout, "--part", part, str(root), str(work / f"cache-{count}")]
        child = subprocess.run(
            [sys.executable, __file__, *flags], check=True, stdout=subprocess.PIPE, text=True
        )
        found |= json.loads(child.stdout.splitlines()[-1])
    shutil.rmtree(work / f"cache-{count}")
    shutil.rmtree(work / f"set-{count}")
    mib = {name: found.pop(name) for name in ("_mib", "_mib_before")}
    return {**{name: value / count * 1e6 for name, value in found.items()}, **mib}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--layout", choices=("manifest", "lidc_drr"), default="manifest")
    parser.add_argument("--skip-check", action="store_true", help="leave out `data check`")
    parser.add_argument("--link-cache", action="store_true", help="decode few, link the others")
    parser.add_argument("--digest", action="store_true", help="the data's digest alone")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part, root, cache = args.part
        kind = {"cold": part == "cold", "check": not args.skip_check, "link": args.link_cache}
        kind["digest"] = args.digest
        print(json.dumps(stages(args.layout, Path(root), Path(cache), **kind)))
        return
    from step_cost import machine

    rows: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="data-scale-") as folder:
        for count in args.counts:
            rows[count] = measure(args, count, Path(folder))
            if args.json:  # after every count: the largest may meet somebody's time limit
                found = {"machine": machine(), "layout": args.layout, "rows": rows}
                args.json.write_text(json.dumps(found, indent=2) + "\n")
    print(f"data={args.layout}; {machine()}; load {os.getloadavg()[0]:.1f}\n")
    first, last = args.counts[0], args.counts[-1]
    print(
        f"{'microseconds a case':26}" + "".join(f"{n:>10,}" for n in rows) + f"{'last/first':>12}"
    )
    for stage in (stage for stage in STAGES if stage in rows[first]):
        values = [row[stage] for row in rows.values()]
        ratio = rows[last][stage] / rows[first][stage]
        print(f"{stage:26}" + "".join(f"{value:10.1f}" for value in values) + f"{ratio:12.2f}")
    print(f"{'peak memory, MiB':26}" + "".join(f"{row['_mib']:10.0f}" for row in rows.values()))


if __name__ == "__main__":
    main()
