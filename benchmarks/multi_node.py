"""One training on two machines: two network namespaces joined by a virtual cable, README's recipe.

    sudo python benchmarks/multi_node.py  # Linux, root, `ip` (iproute2) and `unshare`
    sudo python benchmarks/multi_node.py --bad-names  # hostnames lead to 127.0.1.1, as in Debian

Each namespace has its own loopback, address and hostname, as a machine would; they share the file
system, as nodes of a cluster do. Trains a tiny model over both, over two processes of this machine,
and over both once more with a SIGTERM to the second one's torchrun, then goes on from there.
Every end must be the same to the last bit. Exits with 1 where something is not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

PORT = 29500
LONGEST = 600  # seconds that a training or a stop may take
TINY = (
    "data.n_cases=10",
    "data.size=64",
    "data.batch_size=1",
    "data.split.val_fraction=0.34",
    "model.encoder.channels=[8,8,8,8,8]",
    "model.decoder_channels=8",
    "attention.hidden_channels=8",
    "callbacks.overlays.every_n_epochs=0",
    "callbacks.checkpoint.every_n_steps=1",
    "schedule.total_epochs=3",
    "trainer=ddp_cpu",
    "trainer.num_threads=1",
    "trainer.progress_bar=false",
)


@dataclass(frozen=True)
class Node:
    """A network namespace with one address; its hostname is its name."""

    name: str
    address: str

    def command(self, *words: str) -> list[str]:
        """The command, run on this node."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.name, *words]
        return ["ip", "netns", "exec", self.name, *named]

    @property
    def cable(self) -> str:
        return f"v{self.name}"


@contextlib.contextmanager
def two_nodes(*, bad_names: bool) -> Iterator[tuple[Node, Node]]:
    """Two namespaces and the cable between them; gone afterwards."""
    mark = uuid.uuid4().hex[:6]
    nodes = Node(f"mn{mark}a", "10.77.0.1"), Node(f"mn{mark}b", "10.77.0.2")
    try:
        for node in nodes:
            ip("netns", "add", node.name)
        first, second = nodes
        ip("link", "add", first.cable, "netns", first.name, "type", "veth",
           "peer", "name", second.cable, "netns", second.name)  # fmt: skip
        for node in nodes:
            ip("-n", node.name, "address", "add", f"{node.address}/24", "dev", node.cable)
            for device in ("lo", node.cable):
                ip("-n", node.name, "link", "set", device, "up")
            hosts = Path("/etc/netns") / node.name / "hosts"  # `ip netns exec` puts it in place
            hosts.parent.mkdir(parents=True)
            known = f"127.0.1.1 {node.name}\n" if bad_names else ""
            known += "".join(f"{each.address} {each.name}\n" for each in nodes)
            hosts.write_text("127.0.0.1 localhost\n" + known)
        yield nodes
    finally:
        for node in nodes:
            subprocess.run(["ip", "netns", "delete", node.name], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns") / node.name, ignore_errors=True)


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ip {' '.join(words)}: {done.stderr.strip()}")


def start(
    nodes: Sequence[Node], words: Sequence[str], logs: Path, *, bad_names: bool
) -> list[subprocess.Popen[bytes]]:
    """README's recipe on every node, with what it adds where names lead to the loopback."""
    head = nodes[0]
    logs.mkdir(exist_ok=True)
    agents = []
    for node in nodes:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(len(nodes))]
        torchrun += ["--nproc-per-node", "1", "--rdzv-backend", "c10d"]
        torchrun += ["--rdzv-endpoint", f"{head.name}:{PORT}", "--rdzv-id", logs.name]
        interface = {}
        if bad_names:
            torchrun += ["--local-addr", node.address, "--rdzv-conf", f"is_host={node is head}"]
            interface = {"GLOO_SOCKET_IFNAME": node.cable}
        train = ["-m", "attnseg", "train", *words, "trainer.devices=1", "trainer.num_nodes=2"]
        with (logs / f"{node.name[-1]}.log").open("ab") as log:
            agents.append(
                subprocess.Popen(
                    node.command(*torchrun, *train),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env=os.environ | {"OMP_NUM_THREADS": "1"} | interface,
                )
            )
    return agents


def finish(agents: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Every agent's exit code."""
    limit = time.monotonic() + LONGEST
    try:
        return [agent.wait(max(0.0, limit - time.monotonic())) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()


def stop_one(agents: Sequence[subprocess.Popen[bytes]], last: Path) -> None:
    """SIGTERM to the second node's torchrun once there is a checkpoint."""
    while not last.is_file() and all(agent.poll() is None for agent in agents):
        time.sleep(0.02)
    agents[1].send_signal(signal.SIGTERM)
    begin = time.monotonic()
    codes = finish(agents)
    seconds = time.monotonic() - begin
    print(f"SIGTERM to one node: both ended within {seconds:.1f} s, exit codes {codes}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bad-names", action="store_true", help="hostnames lead to 127.0.1.1")
    parser.add_argument("--no-stop", action="store_true", help="leave out the SIGTERM")
    args = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        raise SystemExit("network namespaces need Linux, root, `ip` (iproute2) and `unshare`")
    from attnseg.runs.folder import RunFolder
    from tests.exactness import assert_equal_runs

    with tempfile.TemporaryDirectory(prefix="multi-node-") as folder:
        work = Path(folder)
        words = [*TINY, f"data.cache_dir={work / 'cache'}"]
        one = [sys.executable, "-m", "attnseg", "train", *words, f"run.dir={work / 'one'}"]
        subprocess.run([*one, "trainer.devices=2"], cwd=ROOT, check=True, capture_output=True)
        whole = RunFolder(work / "one")
        with two_nodes(bad_names=args.bad_names) as nodes:

            def train(name: str) -> list[subprocess.Popen[bytes]]:
                together = [*words, f"run.dir={work / name}"]
                return start(nodes, together, work / f"{name}-logs", bad_names=args.bad_names)

            must_finish("two nodes", finish(train("nodes")), work)
            assert_equal_runs(RunFolder(work / "nodes"), whole)
            print("weights, optimizer and ledger equal those of two processes on one machine")
            if args.no_stop:
                return
            stopped = RunFolder(work / "stopped")
            stop_one(train("stopped"), stopped.last)
            status = stopped.read_status()
            print(f"its state: {status['state']} ({status['reason']})")
            must_finish("the same commands again", finish(train("stopped")), work)
            assert_equal_runs(stopped, whole)
            print("equal to the whole run")


def must_finish(what: str, codes: Sequence[int], work: Path) -> None:
    print(f"{what}: exit codes {codes}", flush=True)
    if any(codes):
        logs = sorted(work.glob("*-logs/*.log"), key=lambda path: path.stat().st_mtime)
        raise SystemExit("\n".join(f"--- {log}\n{log.read_text()[-3000:]}" for log in logs))


if __name__ == "__main__":
    main()
