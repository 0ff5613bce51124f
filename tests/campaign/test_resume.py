"""A run that is killed and resumed ends with the same bytes as one that is not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from processes import PATIENCE, started

OPTIONS = (
    "--task cooperative-navigation-2 --sampler otc-value uniform online-matched --dataset-size 3000 "
    "--offline-updates 60 --deployments 2 --updates 30 --hidden 8 --evaluation-episodes 4"
).split()


def marline(*arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "marline", *arguments]
    return started(command, stderr=subprocess.STDOUT, env={**os.environ, "JAX_PLATFORMS": "cpu"})


def finish(*arguments: str) -> str:
    with marline(*arguments) as process:
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


def fingerprints(run: Path) -> dict[str, str]:
    """What must not depend on interruptions: policies, learners, memories, logs, measurements, trajectories."""
    found = {}
    for pattern in ("**/*.safetensors", "**/*.h5", "**/trajectories.json"):
        for path in sorted(run.glob(pattern)):
            found[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(run.glob("**/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        timeless = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
        found[str(path.relative_to(run))] = json.dumps(timeless)
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed, which needs no process but its own."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    finish("run", "--run", str(run), *OPTIONS, "--seeds", "1")
    return run


def wait_for(process: subprocess.Popen[str], path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.parametrize(
    "moment",
    [
        "data",  # the logs have just been published
        "seed-0/otc-value/deployment-01/logs",  # deployed, not tuned
        "seed-0/online-matched-otc-value/checkpoint-0000001",
    ],
)
def test_a_killed_run_resumes_to_the_same_bytes(moment: str, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with marline("run", "--run", str(run), *OPTIONS, "--seeds", "1") as process:
        wait_for(process, run / moment)
    assert not (run / "report.html").exists(), "the run was over before it was killed"
    finish("resume", str(run))
    assert fingerprints(run) == fingerprints(uninterrupted)
    assert (run / "report.html").exists()


def test_workers_end_with_their_parent_and_the_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Two seeds, a worker each: killed, then asked to stop, then left alone."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish("run", "--run", str(whole), *OPTIONS, "--seeds", "2")

    with marline("run", "--run", str(run), *OPTIONS, "--seeds", "2") as process:
        wait_for(process, run / "seed-1" / "offline" / "metrics.jsonl")  # perhaps not the other's
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)  # returns when the last process that holds the pipe has gone
    assert not finished(run, seed=1)

    with marline("resume", str(run)) as process:
        wait_for(process, run / "seed-0" / "otc-value" / "checkpoint-0000001")
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert f"marline resume {run}" in output
    assert not finished(run, seed=0)

    finish("resume", str(run))
    assert fingerprints(run) == fingerprints(whole)


def finished(run: Path, *, seed: int) -> bool:
    """Whether a seed came to the last checkpoint of its last sampler."""
    return (run / f"seed-{seed}" / "online-matched-otc-value" / "checkpoint-0000002").exists()


def test_resuming_a_finished_run_changes_nothing(uninterrupted: Path) -> None:
    before = fingerprints(uninterrupted)
    finish("resume", str(uninterrupted))
    assert fingerprints(uninterrupted) == before


def test_a_line_that_a_kill_kept_from_the_metrics_is_written_and_the_control_matches_it(
    uninterrupted: Path, tmp_path: Path
) -> None:
    """The kill came between the last checkpoint of a sampler and its last line, before its control began."""
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    shutil.rmtree(run / "seed-0" / "online-matched-otc-value")
    for name in ("offline", "otc-value", "uniform"):
        metrics = run / "seed-0" / name / "metrics.jsonl"
        metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))
    finish("resume", str(run))
    assert fingerprints(run) == fingerprints(uninterrupted)


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    for checkpoint in ("offline/checkpoint-0000060", "otc-value/checkpoint-0000002"):
        file = run / "seed-0" / checkpoint / "agent_1" / "learner.safetensors"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    finish("resume", str(run))
    assert fingerprints(run) == fingerprints(uninterrupted)


def test_a_damaged_dataset_is_named(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    file = run / "data" / "agent_0.h5"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    with marline("resume", str(run)) as process:
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert "agent_0.h5" in output and "Traceback" not in output
