"""Several nodes are one run: README's torchrun recipe, by two agents here or in two namespaces."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from attnseg.runs.checkpoints import read_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.training.launch import launch
from tests.conftest import TINY, configure
from tests.exactness import assert_equal_runs

ROOT = Path(__file__).parents[2]
GROUP = (
    *("data.n_cases=10", "schedule.total_epochs=3", "callbacks.checkpoint.every_n_steps=1"),
    *("callbacks.overlays.every_n_epochs=0", "data.batch_size=1"),
    *("trainer=ddp_cpu", *TINY[-2:]),
)
NODES = ("trainer.devices=1", "trainer.num_nodes=2")
PATIENCE = 300  # seconds: hangs must not hang the tests


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run by one agent with two processes."""
    folder = RunFolder(tmp_path_factory.mktemp("one") / "run")
    assert launch(configure(folder.path, *GROUP)) == 0
    return folder


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def train_by_two(
    rendezvous: str, *command: str, fault: dict[str, object] | None = None
) -> list[tuple[int, str]]:
    """Exit code and output of two torchrun agents that run `-m command...`."""
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ATTNSEG_FAULT": json.dumps(fault or {})}
    agents = []
    for node in (0, 1):
        static = ["--node-rank", str(node), "--master-addr", "127.0.0.1"]
        meeting = {
            "c10d": ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"],
            "static": [*static, "--master-port", str(port)],
        }[rendezvous]
        agents.append(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"),
                    *("--nproc-per-node", "1", *meeting, "-m", *command),
                ],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [agent.communicate(timeout=PATIENCE)[0] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    return [(agent.returncode, output) for agent, output in zip(agents, outputs, strict=True)]


@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("rendezvous", ["c10d", "static"])
def test_torchrun_on_two_nodes_is_one_run(
    rendezvous: str, one_machine: RunFolder, tmp_path: Path
) -> None:
    """Which agent gets rank 0 is the rendezvous's to say; only it tells where the run is."""
    words = ("attnseg", "train", *TINY, *GROUP, *NODES, f"run.root={tmp_path}")
    ended = train_by_two(rendezvous, *words)
    assert [code for code, _ in ended] == [0, 0], ended
    assert sorted("run folder:" in output for _, output in ended) == [False, True]
    (folder,) = tmp_path.iterdir()
    assert_equal_runs(RunFolder(folder), one_machine)


@pytest.mark.full
@pytest.mark.timeout(3 * PATIENCE)
def test_a_node_that_is_stopped_stops_the_other_and_they_go_on_to_the_same_bits(
    one_machine: RunFolder, tmp_path: Path
) -> None:
    """SIGTERM to one torchrun, as a scheduler sends it: the step is finished and saved."""
    folder = RunFolder(tmp_path / "run")
    frozen = tmp_path / "launch.yaml"
    config = configure(folder.path, *GROUP, *NODES)
    frozen.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    fault = {"what": "stop_launcher", "step": 5, "rank": 1, "once": str(tmp_path / "fault")}
    ended = train_by_two("c10d", "tests.faulty", str(frozen), fault=fault)
    assert all(code != 0 for code, _ in ended), ended
    assert folder.read_status().get("state") == "interrupted", ended
    assert read_checkpoint(folder.last)["global_step"] >= 5
    ended = train_by_two("c10d", "tests.faulty", str(frozen))
    assert [code for code, _ in ended] == [0, 0], ended
    assert_equal_runs(folder, one_machine)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="network namespaces need root"
)
@pytest.mark.skipif(
    not (shutil.which("ip") and shutil.which("unshare")),
    reason="network namespaces need `ip` (iproute2) and `unshare`",
)
@pytest.mark.full
@pytest.mark.timeout(3 * PATIENCE)
def test_two_network_namespaces_are_one_run() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/multi_node.py", "--no-stop"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "netns add" in done.stderr:
        pytest.skip(f"this system makes no network namespaces ({done.stderr.strip()})")
    assert done.returncode == 0, done.stderr
    assert "equal those of two processes on one machine" in done.stdout
