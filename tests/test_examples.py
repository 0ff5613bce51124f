"""Every example runs and does what it says."""

from __future__ import annotations

import importlib
import importlib.util
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import marline
from marline import cli

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_quickstart_trains_deploys_and_reports(tmp_path: Path, capsys) -> None:
    main = runpy.run_path(str(EXAMPLES / "quickstart.py"))["main"]
    main.__globals__["EPISODES"] = 8  # of the logs, and of each deployment
    main(tmp_path)
    printed = capsys.readouterr().out
    assert "deployment 2: alpha" in printed
    assert (tmp_path / "run" / "report.html").stat().st_size > 20_000
    assert (tmp_path / "run" / "seed-0" / "otc-value" / "deployment-02" / "policies" / "a.safetensors").exists()


@pytest.mark.slow
def test_an_external_deployment_sends_policies_and_takes_logs(tmp_path: Path, capsys) -> None:
    runpy.run_path(str(EXAMPLES / "external_deployment.py"))["main"](tmp_path, episodes=4, deployments=1)
    printed = capsys.readouterr().out
    assert "deployment 1: ingested, rows {'left': 50, 'middle': 50, 'right': 50}" in printed
    assert (tmp_path / "came-back-1" / "left" / "000001.npz").exists()


@pytest.mark.slow
def test_signals_go_from_a_table_to_a_team_in_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("libsumo", "sumo_rl"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("signals in SUMO need: pip install 'marline[traffic]'")
    pytest.importorskip("pyarrow", reason="tables need: pip install 'marline[data]'")
    pytest.importorskip("onnxruntime", reason="bundles need: pip install 'marline[export]'")
    learning = {"offline_updates": 4, "updates": 4, "hidden": (4,)}
    main = runpy.run_path(str(EXAMPLES / "traffic.py"))["main"]
    results = main(tmp_path, days=2, deployments=1, field_days=1, evaluation_days=2, seconds=60, **learning)
    names = ["fixed-time", "actuated", "max-pressure", "learned offline", "tuned 1 times"]
    assert list(results) == names and all(len(days) == 2 for days in results.values())
    printed = capsys.readouterr().out
    assert "$ marline data check" in printed and "logs of deployment 1 are in; rows: signal_0 12" in printed
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_an_environment_of_ones_own_is_learned(tmp_path: Path, capsys) -> None:
    pytest.importorskip("pettingzoo", reason="environments of the user's need: pip install 'marline[parallel]'")
    example = runpy.run_path(str(EXAMPLES / "custom_environment.py"))
    example["main"](tmp_path, rows=2000, updates=400)
    printed = capsys.readouterr().out
    returns = [float(value) for value in re.findall(r"'(-[\d.]+)'", printed)]
    assert len(returns) == 3 and max(returns) <= 0.0
    assert (tmp_path / "run" / "report.html").exists()


def test_correction_in_a_loop_of_ones_own_flips_the_choice() -> None:
    learn = runpy.run_path(str(EXAMPLES / "correct_in_your_own_loop.py"))["learn"]
    uncorrected, corrected = learn(False, seed=0, updates=600), learn(True, seed=0, updates=600)
    assert uncorrected.argmax() == 0
    assert corrected.argmax() == 1
    assert np.abs(corrected - [0.2, 2.8]).sum() < np.abs(uncorrected - [0.2, 2.8]).sum()


BEYOND = """
import dataclasses, jax
from custom_sampler import HalfRecent

@dataclasses.dataclass(frozen=True)
class Beyond(HalfRecent):
    def sample(self, state, experience, critic, *, key):
        return jax.random.randint(key, (self.batch_size,), 0, experience.size + 5), state, {}
"""


def test_a_sampler_of_ones_own_is_compared_controlled_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("custom_sampler")
    small = {"seeds": 1, "dataset_size": 200, "offline_updates": 4, "deployments": 1, "updates": 4}
    study = example.main(tmp_path / "run", algorithm="td3-bc(hidden=(4,))", evaluation_episodes=2, **small)
    assert "custom_sampler:HalfRecent" in (tmp_path / "run" / "run.json").read_text("utf-8")
    again = marline.Study.open(tmp_path / "run", trust=True).extend(samplers=["shuffled"]).run(progress=False)
    assert again.config.matches == {"shuffled-mine": "mine"} and study.config.samplers["mine"] == example.HalfRecent()
    (tmp_path / "beyond_sampler.py").write_text(BEYOND)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = (tmp_path / "run" / "run.json").read_bytes()
    sizes = "--dataset-size 200 --hidden 4 --offline-updates 4 --updates 4 --deployments 1".split()
    other = ["run", "--run", tmp_path / "other", "--task", "cooperative-navigation-2", *sizes]
    for command in ["resume", tmp_path / "run"], other:
        with pytest.raises(SystemExit) as stop:
            cli.main([*map(str, command), "--sampler", "badly=beyond_sampler:Beyond", "--trust"])
        assert stop.value.code == 2 and "badly with TD3BC: Beyond.sample drew row" in capsys.readouterr().err
    assert (tmp_path / "run" / "run.json").read_bytes() == before and not (tmp_path / "other").exists()
    for command in (["report"], ["verify"], ["resume", "--trust"], ["verify", "--replay", "--trust"]):
        with pytest.raises(SystemExit) as stop:
            cli.main([*command[:1], str(tmp_path / "run"), *command[1:]])
        assert stop.value.code == 0, (command, capsys.readouterr().err)


def test_an_algorithm_of_ones_own_learns_and_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("custom_algorithm")
    small = {"seeds": 1, "dataset_size": 400, "offline_updates": 4, "deployments": 1, "updates": 4}
    example.main(tmp_path / "run", evaluation_episodes=2, **small)
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", str(tmp_path / "run"), "--sampler", "uniform", "--trust", "--out", str(tmp_path / "out")])
    assert stop.value.code == 0, capsys.readouterr().err
    assert (tmp_path / "out" / "agent_0" / "policy.onnx").exists()


def test_a_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the example of a sweep needs: pip install optuna")
    sweep = runpy.run_path(str(EXAMPLES / "sweep.py"))["sweep"]
    small = {"dataset_size": 200, "offline_updates": 4, "deployments": 1, "updates": 4, "evaluation_episodes": 2}
    for done in (1, 2):
        found = sweep(tmp_path, trials=1, seeds=1, **small)
        assert len(found.trials) == done and found.best_value == max(trial.value for trial in found.trials)
    assert (tmp_path / "trial-1" / "run.json").exists()
