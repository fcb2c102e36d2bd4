"""`cluster/slurm/hypsae.sbatch` with commands of Slurm and Ray that write down what they are asked."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray._common.test_utils import wait_for_condition

from tests.deadline import DEADLINE_S

SBATCH = Path(__file__).parents[2] / "cluster" / "slurm" / "hypsae.sbatch"

RAY = """
case "$1 $2" in
    "list nodes") echo '[{"node_id": "a", "state": "ALIVE"}, {"node_id": "b", "state": "ALIVE"}]' ;;
    "job submit") ls -l "$RAY_AUTH_TOKEN_PATH" >> "$LOG"; exec $JOB ;;
esac
"""
STUBS = {
    "srun": "exec sleep 600\n",
    "scontrol": '[ "$1" != show ] || printf "node1\\nnode2\\n"\n',
    "hostname": 'echo "192.0.2.7 198.51.100.1"\n',
    "ray": RAY,
}
Start = Callable[[str], subprocess.Popen]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the script for job 4321 with a command in place of the submitted job."""
    for name, body in STUBS.items():
        stub = tmp_path / name
        stub.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> "$LOG"\n{body}')
        stub.chmod(0o755)
    slurm = {
        "JOB_ID": "4321",
        "JOB_NODELIST": "node[1-2]",
        "NNODES": "2",
        "CPUS_PER_TASK": "8",
        "GPUS_ON_NODE": "4",
    }
    environment = {
        **os.environ,
        **{f"SLURM_{name}": value for name, value in slurm.items()},
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "LOG": str(tmp_path / "log"),
    }
    started: list[subprocess.Popen] = []

    def begin(job: str) -> subprocess.Popen:
        command = ["bash", str(SBATCH), "jobs/run.py", "--config", "c.yaml"]
        process = subprocess.Popen(command, env={**environment, "JOB": job}, start_new_session=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the nodes, which Slurm would end
        process.wait()


def log_of(folder: Path) -> list[str]:
    file = folder / "log"
    return file.read_text().splitlines() if file.exists() else []


def test_ray_starts_on_all_nodes_and_the_job_is_submitted_with_a_token(start: Start, tmp_path: Path):
    assert start("true").wait(DEADLINE_S) == 0
    log = log_of(tmp_path)
    (head,) = [line for line in log if "ray start --head" in line]
    assert "--nodelist=node1" in head and "--dashboard-host=127.0.0.1" in head
    assert "--port=23210" in head and "--num-cpus=6" in head and "--num-gpus=4" in head
    (others,) = [line for line in log if "ray start --block" in line]
    assert "--exclude=node1" in others and "--address=192.0.2.7:23210" in others
    (submitted,) = [line for line in log if line.startswith("ray job submit")]
    assert submitted.endswith("-- python jobs/run.py --config c.yaml")
    (token,) = [line for line in log if line.startswith("-")]
    assert token.startswith("-rw-------")
    assert not list((tmp_path / "runs").iterdir())  # the token is gone


@pytest.mark.parametrize(
    ("sent", "code", "requeued"),
    [(signal.SIGUSR1, 0, True), (signal.SIGTERM, 143, False)],
    ids=lambda value: str(value),
)
def test_a_signal_stops_the_job_and_queues_it_again_where_slurm_would_not(
    start: Start, tmp_path: Path, sent: signal.Signals, code: int, requeued: bool
):
    process = start("sleep 600")
    wait_for_condition(lambda: any("job submit" in line for line in log_of(tmp_path)), timeout=DEADLINE_S)
    process.send_signal(sent)
    assert process.wait(DEADLINE_S) == code
    log = log_of(tmp_path)
    assert log.count("ray job stop --address http://127.0.0.1:23211 hypsae-4321") == 1
    assert ("scontrol requeue 4321" in log) == requeued


def test_a_job_that_fails_fails_the_script(start: Start):
    assert start("false").wait(DEADLINE_S) == 1


def test_no_job_named_is_said(tmp_path: Path):
    done = subprocess.run(["bash", str(SBATCH)], capture_output=True, text=True)
    assert done.returncode == 2 and "usage: sbatch" in done.stderr
