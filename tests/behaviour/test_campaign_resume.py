"""A run that is killed and resumed ends with the same bytes as one that is not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from processes import PATIENCE, started, wait_until

from marline import cli
from marline.configuration.run_config import RunConfig
from marline.data import dataset
from marline.data.manifest import RESERVED, read_sealed, record_file, write_sealed
from marline.data.migrations import CHECKPOINT
from marline.errors import CorruptionError
from marline.runs.export import export
from marline.runs.verify import verify
from marline.study import execution as study

OPTIONS = (
    "--task cooperative-navigation-2 --sampler otc-value online-matched --dataset-size 3000 "
    "--offline-updates 60 --deployments 2 --updates 30 --hidden 8 --evaluation-episodes 4"
).split()
CONTROL = "online-matched-otc-value"


def marline(*arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "marline", *arguments]
    return started(command, stderr=subprocess.STDOUT, env={**os.environ, "JAX_PLATFORMS": "cpu"})


def finish(*arguments: str) -> str:
    with marline(*arguments) as process:
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


def here(*arguments: str) -> None:
    """In this process, which keeps what it compiled."""
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments])
    assert stop.value.code == 0


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
    here("run", "--run", str(run), *OPTIONS, "--seeds", "1")
    return run


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("data", marks=pytest.mark.slow),  # the logs have just been published
        "seed-0/otc-value/deployment-01/logs",  # deployed, not tuned
        pytest.param("seed-0/online-matched-otc-value/checkpoint-0000001", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_resumes_to_the_same_bytes(moment: str, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with marline("run", "--run", str(run), *OPTIONS, "--seeds", "1") as process:
        wait_until((run / moment).exists, process)
    assert not (run / "report.html").exists(), "the run was over before it was killed"
    here("resume", str(run))
    assert fingerprints(run) == fingerprints(uninterrupted)
    assert (run / "report.html").exists()


@pytest.mark.slow
def test_workers_end_with_their_parent_and_the_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Two seeds, a worker each: killed, then asked to stop, then left alone."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish("run", "--run", str(whole), *OPTIONS, "--seeds", "2")

    with marline("run", "--run", str(run), *OPTIONS, "--seeds", "2") as process:
        wait_until((run / "seed-1" / "offline" / "metrics.jsonl").exists, process)  # perhaps not the other's
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)  # returns when the last process that holds the pipe has gone
    assert not finished(run, seed=1)

    with marline("resume", str(run)) as process:
        wait_until((run / "seed-0" / "otc-value" / "checkpoint-0000001").exists, process)
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert f"marline resume {run}" in output
    assert not finished(run, seed=0)

    finish("resume", str(run))
    assert fingerprints(run) == fingerprints(whole)


def finished(run: Path, *, seed: int) -> bool:
    """Whether a seed came to the last checkpoint of its last sampler."""
    return (run / f"seed-{seed}" / CONTROL / "checkpoint-0000002").exists()


def test_resuming_a_finished_run_changes_nothing(uninterrupted: Path) -> None:
    before = fingerprints(uninterrupted)
    here("resume", str(uninterrupted))
    assert fingerprints(uninterrupted) == before


def test_a_line_that_a_kill_kept_from_the_metrics_is_written_and_the_control_matches_it(
    uninterrupted: Path, tmp_path: Path
) -> None:
    """The kill came between the last checkpoint of a sampler and its last line, before its control began."""
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    shutil.rmtree(run / "seed-0" / CONTROL)
    for name in ("offline", "otc-value"):
        metrics = run / "seed-0" / name / "metrics.jsonl"
        metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))
    here("resume", str(run))
    assert fingerprints(run) == fingerprints(uninterrupted)


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    for checkpoint in ("offline/checkpoint-0000060", "otc-value/checkpoint-0000002"):
        file = run / "seed-0" / checkpoint / "agent_1" / "learner.safetensors"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    with pytest.raises(SystemExit) as stop:
        cli.main(["verify", str(run)])
    assert stop.value.code == 3 and capsys.readouterr().out.endswith(f"next: marline resume {run}\n")
    here("resume", str(run))
    assert fingerprints(run) == fingerprints(uninterrupted)


def test_the_parts_of_a_study_are_verified_and_what_is_served_is_computed_again(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(uninterrupted) == (verify(uninterrupted).num_files, 0, (), ())
    assert verify(uninterrupted).num_files > 40
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    config, data = RunConfig.read(run / "run.json"), dataset.load(run / "data")
    before = fingerprints(run)
    assert study.replay(run, config, data, 0, CONTROL) == {"agent_0": True, "agent_1": True}
    home, other = (run / "seed-0" / name / "deployment-02" / "policies" for name in (CONTROL, "otc-value"))
    shutil.copy(other / "agent_1.safetensors", home / "agent_1.safetensors")
    entries = read_sealed(home / "manifest.json", CHECKPOINT)
    kept = {key: value for key, value in entries.items() if key not in RESERVED}
    files = {name: record_file(home / name) for name in entries["files"]}
    write_sealed(home / "manifest.json", "marline checkpoint", 1, kept, files)
    assert study.replay(run, config, data, 0, CONTROL) == {"agent_0": True, "agent_1": False}
    with pytest.raises(SystemExit) as stop:
        cli.main(["verify", str(run)])
    assert stop.value.code == 3
    printed, error = capsys.readouterr()
    assert f"{home} is not what {home.parents[1] / 'checkpoint-0000002'} was made with" in error
    assert "next:" not in printed  # which no command mends
    changed = {name for name, value in fingerprints(run).items() if before[name] != value}
    assert changed == {str((home / "agent_1.safetensors").relative_to(run))}


@pytest.mark.parametrize(
    "old, new", [('"updates": 30', '"updates": 31'), ('"seeds": [', '"seeds": [7,'), ('"gamma": 0.99', '"gamma": 0.9')]
)
def test_a_configuration_that_was_edited_is_refused(
    old: str, new: str, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "report.html").unlink()
    text = (run / "run.json").read_text()
    assert old in text
    (run / "run.json").write_text(text.replace(old, new, 1))
    before = fingerprints(run)
    for command in ("resume", "report", "verify", "export", "play"):
        with pytest.raises(SystemExit) as stop:
            cli.main([command, str(run)])
        assert stop.value.code == 3
        told = capsys.readouterr().err
        assert "altered, or is of another run; restore a copy" in told
    assert fingerprints(run) == before and not (run / "report.html").exists()


@pytest.mark.parametrize("deployment", [0, None])
def test_bundles_belong_to_the_run_that_they_are_of(
    deployment: int | None, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    export(run, None, sampler=None if deployment == 0 else CONTROL, deployment=deployment, seed=0)
    assert len(list(run.glob("seed-0/**/contract.json"))) == 2 and verify(run).problems == ()
    text = (run / "run.json").read_text().replace('"gamma": 0.99', '"gamma": 0.98')
    (run / "run.json").write_text(text)
    assert [told for told in verify(run).problems if "bundles" in told and "exported from another run" in told]


def test_policies_of_another_sampler_are_not_exported(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    home = run / "seed-0" / CONTROL / "deployment-02" / "policies"
    shutil.rmtree(home)
    shutil.copytree(run / "seed-0" / "otc-value" / "deployment-02" / "policies", home)
    with pytest.raises(CorruptionError, match="is not what .* was made with: it is of another run"):
        export(run, tmp_path / "out", sampler=CONTROL)
    assert not (tmp_path / "out").exists()
    shutil.rmtree(run / "seed-0" / CONTROL / "checkpoint-0000002")
    shutil.copytree(
        run / "seed-0" / "otc-value" / "checkpoint-0000002", run / "seed-0" / CONTROL / "checkpoint-0000002"
    )
    assert [one for one in verify(run).problems if "is of another place: checkpoint 2 of 'seed-0/otc-value'" in one]


def test_a_damaged_dataset_is_named(uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    file = run / "data" / "agent_0.h5"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    with pytest.raises(SystemExit) as stop:
        cli.main(["resume", str(run)])
    told = capsys.readouterr().err
    assert stop.value.code == 3
    assert "agent_0.h5" in told and "Traceback" not in told
