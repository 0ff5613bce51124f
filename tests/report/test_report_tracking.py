"""What trackers are told while a run goes on, and that none of them can harm it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import pytest

from marline.errors import ConfigError
from marline.report import tracking, write_parquet
from marline.report.follow import follow, log_new
from marline.report.records import read_run
from marline.report.trackers import TRACKERS, Kind, Team, require_trackers
from marline.report.tracking import tracked

WriteRun = Callable[..., Path]
Told = list[tuple[str, int, Mapping[str, float]]]


class Notebook:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: Told = []
        self.closed = False

    def log(self, team: Team, deployment: int, values: Mapping[str, float]) -> None:
        self.told.append((team.name, deployment, values))

    def close(self) -> None:
        self.closed = True


def test_each_deployment_is_told_once_and_in_order(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    early = write_run(tmp_path / "early" / "run", seeds=(0,), deployments=3, reached=lambda *_: 1)
    late = write_run(tmp_path / "late" / "run", seeds=(0,), deployments=3)
    change_line(late, 0, "uniform", 3, **{"return": float("nan")})
    notebook, seen = Notebook(), {}
    log_new(read_run(early), notebook, seen)
    log_new(read_run(late), notebook, seen)
    log_new(read_run(late), notebook, seen)
    of_uniform = [(deployment, values) for name, deployment, values in notebook.told if name == "uniform, seed 0"]
    assert [deployment for deployment, _ in of_uniform] == [0, 1, 2, 3]
    assert len(notebook.told) == 4 * 4
    run = read_run(late)
    assert of_uniform[2][1]["return"] == run.curve("uniform", 0)[2] and "return" not in of_uniform[3][1]
    assert of_uniform[3][1]["mean_q/agent_1"] == run.diagnostic("uniform", 0, "mean_q")[3]["agent_1"]


def test_a_run_is_followed_until_it_ends(write_run: WriteRun, tmp_path: Path) -> None:
    whole = write_run(tmp_path / "whole", seeds=(0,), deployments=2, samplers={"uniform": {"type": "Uniform"}})
    notebook, ended, folder = Notebook(), threading.Event(), tmp_path / "run"
    following = threading.Thread(target=follow, args=(folder, notebook, ended))
    following.start()  # before there is a run
    lines = (whole / "seed-0" / "uniform" / "metrics.jsonl").read_text("utf-8").splitlines(keepends=True)
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("seed-*"))
    (folder / "seed-0" / "uniform").mkdir(parents=True)
    (folder / "seed-0" / "uniform" / "metrics.jsonl").write_text(lines[0] + lines[1][:20], "utf-8")  # half a line
    deadline = time.monotonic() + 60
    while not notebook.told and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [deployment for _, deployment, _ in notebook.told] == [0] and not notebook.closed
    (folder / "seed-0" / "uniform" / "metrics.jsonl").write_text("".join(lines), "utf-8")
    ended.set()
    following.join(60)
    assert [deployment for _, deployment, _ in notebook.told] == [0, 1, 2] and notebook.closed


def test_nothing_is_logged_of_what_never_began(tmp_path: Path) -> None:
    notebook, ended = Notebook(), threading.Event()
    ended.set()
    follow(tmp_path / "run", notebook, ended)
    assert notebook.told == [] and notebook.closed


def test_a_team_stays_the_same_when_its_run_gains_others(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0, 1), deployments=1)
    first, second = (Team(read_run(path), "uniform", seed).identity for seed in (0, 1))
    settings = json.loads((path / "run.json").read_text("utf-8"))
    settings["seeds"].append(2)
    (path / "run.json").write_text(json.dumps(settings), "utf-8")
    assert Team(read_run(path), "uniform", 0).identity == first != second


def test_a_tracker_that_fails_is_told_once_and_nothing_else_comes_of_it(
    write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboardX", reason="needs marline[tensorboard]")
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1)
    (tmp_path / "tensorboard").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    with tracked(path, ["tensorboard", "tensorboard"]):
        pass
    told = capfd.readouterr().err
    assert told.count("note: tensorboard stopped") == 1 and f"marline report {path} --log tensorboard" in told


def test_who_leaves_early_does_not_wait(write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboardX", reason="needs marline[tensorboard]")
    monkeypatch.chdir(tmp_path)
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1)
    with pytest.raises(KeyboardInterrupt), tracked(path, ["tensorboard"]):
        raise KeyboardInterrupt
    # the follower is still there, and logs what there is before it ends
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("*tfevents*"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(list(tmp_path.rglob("*tfevents*"))) == 4


def test_what_is_not_there_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="tensorboard"):
        require_trackers(["tensorbord"])
    absent = TRACKERS["mlflow"]._replace(package="not_there_at_all")
    monkeypatch.setitem(cast(dict[str, Kind], TRACKERS), "mlflow", absent)
    (tmp_path / "not_there_at_all").mkdir()  # as `wandb` is after a run that was logged
    for folder in ("elsewhere", "."):
        monkeypatch.syspath_prepend(tmp_path / folder)
        with pytest.raises(ConfigError, match=r"pip install 'marline\[mlflow\]'"):
            require_trackers(["mlflow"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's database, when it is read here
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_trackers_keep_everything_on_this_machine(
    name: str, write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(name, reason=f"needs marline[{name}]")
    monkeypatch.setattr(tracking, "PATIENCE", 600.0)  # of a machine that does much else
    monkeypatch.chdir(tmp_path)
    for variable in [variable for variable in os.environ if variable.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(variable)
    path = write_run(tmp_path / "run", seeds=(0,), deployments=2, samplers={"uniform": {"type": "Uniform"}})
    for _ in range(2):  # logged again, nothing is there twice
        with tracked(path, [name]):
            pass
    assert "stopped" not in capfd.readouterr().err
    if name == "wandb":
        assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
        return
    mlflow = sys.modules["mlflow"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("marline").experiment_id])
    history = client.get_metric_history(run.info.run_id, "return")
    assert {metric.step: metric.value for metric in history} == read_run(path).curve("uniform", 0)
    assert len(history) == 3 and run.data.params["sampler"] == "{'type': 'Uniform'}"


def test_all_that_was_measured_is_one_tidy_table(write_run: WriteRun, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs marline[data]")
    path = write_run(tmp_path / "run", seeds=(0, 1), deployments=2)
    rows = parquet.read_table(write_parquet([path], tmp_path / "out.parquet")).to_pylist()
    run = read_run(path)
    (found,) = [
        row["value"]
        for row in rows
        if (row["sampler"], row["seed"], row["deployment"], row["agent"], row["quantity"])
        == ("otc-value", 1, 2, "agent_1", "alpha")
    ]
    assert found == run.diagnostic("otc-value", 1, "alpha")[2]["agent_1"]
    returns = {(row["sampler"], row["seed"], row["deployment"]): row["value"] for row in rows if row["agent"] is None}
    assert returns["uniform", 0, 2] == run.curve("uniform", 0)[2] and len(returns) == 4 * 2 * 3
    with pytest.raises(ConfigError, match=r"does not end in \.parquet"):
        write_parquet([path], tmp_path / "out.csv")
