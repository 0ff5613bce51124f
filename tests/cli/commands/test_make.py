"""`marline data make` of a robot's learned logs, with a training that takes no time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from marline import cli
from marline.behaviour_policy.folder import read_evaluations, read_steps
from marline.behaviour_policy.sac import SAC
from marline.behaviour_policy.team import EXPERT_RETURNS
from marline.behaviour_policy.training import Training
from marline.cli.commands import make as commands_make
from marline.data.dataset import load

pytest.importorskip("gymnasium", reason="MuJoCo tasks need: pip install 'marline[mujoco]'")
pytest.importorskip("mujoco", reason="MuJoCo tasks need: pip install 'marline[mujoco]'")

TINY = Training(
    "Hopper", sac=SAC(hidden=(8,)), warm_up=40, batch_size=8, evaluate_every=60, evaluation_episodes=2, horizon=25
)


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out + captured.err


@pytest.fixture
def soon_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a hopper returns when it is first evaluated is a third of an expert's return."""
    monkeypatch.setattr(commands_make, "Training", lambda robot, version, seed: dataclasses.replace(TINY, seed=seed))
    monkeypatch.setitem(EXPERT_RETURNS, "Hopper", -1e9)


@pytest.mark.slow
@pytest.mark.usefixtures("soon_taught")
def test_replay_and_medium_of_one_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay, medium, latest = (tmp_path / name for name in ("replay", "medium", "latest"))
    status, text = run(capsys, "make", "hopper-3x1/medium-replay", "--out", replay)
    assert status == 0 and "until a return of" in text
    training = tmp_path / "replay.training"
    played = read_steps(training, 1)
    logs = load(replay)
    np.testing.assert_array_equal(
        np.concatenate([log.actions for log in logs.values()], axis=1), np.asarray(played.rows.action)
    )
    for log in logs.values():
        np.testing.assert_array_equal(log.observations, played.rows.observation)
        np.testing.assert_array_equal(log.terminals | log.timeouts, played.ends)
    policy = json.loads((replay / "dataset.json").read_text())["provenance"]["policy"]
    (evaluation,) = read_evaluations(training)
    assert policy["kind"] == "medium-replay-like" and policy["training"]["sac"]["hidden"] == [8]
    assert policy["evaluation"] == evaluation._asdict()

    # what was learned is not learned again
    made = ("--training", training, "--size", "50")
    status, text = run(capsys, "make", "hopper-3x1/medium", "--out", medium, *made)
    assert status == 0 and f"the policy returned {evaluation.mean_return:.0f} after" in text
    assert len(read_evaluations(training)) == 1
    logs = load(medium)
    assert {len(log) for log in logs.values()} == {50}
    provenance = json.loads((medium / "dataset.json").read_text())["provenance"]
    assert provenance["policy"]["kind"] == "medium-like" and set(provenance["versions"]) >= {"mujoco", "gymnasium"}
    status, text = run(capsys, "make", "hopper-3x1/medium-replay", "--out", latest, *made)
    for agent, log in load(latest).items():
        np.testing.assert_array_equal(log.rewards, load(replay)[agent].rewards[-50:])

    status, text = run(capsys, "make", "hopper-3x1/medium", "--out", tmp_path / "m", *made, "--training-seed", "1")
    assert status == 2 and "holds another training (seed 0 there, 1 here)" in text
    assert not (tmp_path / "m").exists()


def test_a_policy_that_comes_with_marline_is_played_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "make", "halfcheetah-2x3/medium", "--size", "1000", "--out", tmp_path / "medium")
    assert status == 0 and not (tmp_path / "medium.training").exists()
    log = load(tmp_path / "medium")["agent_1"]
    assert 3000 < log.rewards.sum() < 6000  # a third of an expert's return is 4045
    assert np.abs(log.actions).max() < 1.0 and log.timeouts[-1]
