"""Logs of teams that differ from episode to episode: in skill, or in what they agreed on."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline import cli
from marline.cli.commands.make import past_teams
from marline.data.dataset import Dataset, load
from marline.data.summary import episodes
from marline.envs import TASKS, Conventional, CooperativeNavigation, Meet, PredatorPrey, World
from marline.envs.scripted import Moving
from marline.policy import Exploring, OneOfTeams, in_episode, of_mixed_skill, one_of_teams
from marline.rollouts.collection import collect, evaluate

KEY = jax.random.key(0)
TEAM_TASK = CooperativeNavigation(2)


def make(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "make", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out + captured.err


def share_by_episode(log: Dataset, is_random: np.ndarray) -> np.ndarray:
    return np.array(
        [part.mean() for part in np.split(is_random, np.flatnonzero(log.terminals | log.timeouts)[:-1] + 1)]
    )


def test_every_agent_has_a_skill_of_its_own_in_every_episode() -> None:
    """Agents stand still unless they act at random, so that each episode tells how often they did."""
    still = {agent: Moving(lambda observation: jnp.zeros(2), 2) for agent in TEAM_TASK.agents}
    logs = collect(TEAM_TASK, of_mixed_skill(still, TEAM_TASK.specs), 20_000, key=KEY)
    shares = [share_by_episode(log, np.abs(log.actions).max(axis=1) > 0) for log in logs.values()]
    for share in shares:  # 400 episodes of 50 steps
        assert np.mean(share) == pytest.approx(0.5, abs=0.05)
        assert np.var(share) == pytest.approx(1 / 12 + 1 / 300, abs=0.012)  # of the skill, and of 50 coins
    assert abs(np.corrcoef(np.array(shares))[0, 1]) < 0.15


def test_an_episode_is_of_one_team() -> None:
    """Members of a team step the same way; teams in opposite ones."""
    teams = {
        name: {agent: Moving(lambda observation, its=its: jnp.full(2, its), 2) for agent in TEAM_TASK.agents}
        for name, its in (("up", 0.5), ("down", -0.5))
    }
    logs = collect(TEAM_TASK, one_of_teams(teams), 10_000, key=KEY)
    first, second = (log.actions for log in logs.values())
    np.testing.assert_array_equal(first, second)
    whole = first.reshape(200, 50, 2)
    assert (whole == whole[:, :1]).all()
    assert np.mean(whole[:, 0, 0] > 0) == pytest.approx(0.5, abs=0.11)


def test_most_policies_are_the_same_in_all_episodes() -> None:
    policy = Moving(lambda observation: observation, 2)
    assert in_episode(policy, key=KEY) is policy
    drawn = in_episode(OneOfTeams((policy,)), key=KEY)
    np.testing.assert_array_equal(drawn(jnp.array([0.25, 3.0]), key=KEY), [0.25, 1.0])


def test_what_an_episode_is_depends_on_its_number_alone() -> None:
    team = one_of_teams(Meet().conventions())
    first = collect(Meet(), team, 400, key=KEY)["agent_0"]
    longer = collect(Meet(), team, 900, key=KEY)["agent_0"]
    np.testing.assert_array_equal(first.observations, longer.observations[:400])


@pytest.mark.parametrize("name", ["cooperative-navigation-2", "cooperative-navigation-2-discrete", "predator-prey"])
@pytest.mark.slow
def test_teams_of_the_particle_worlds_earn_the_same_and_more_than_chance(name: str) -> None:
    task = TASKS[name]
    assert isinstance(task, Conventional) and isinstance(task, World)
    found = [evaluate(task, team, 300, key=KEY).returns for team in task.conventions().values()]
    error = max(returns.std() / np.sqrt(300) for returns in found)
    means = [returns.mean() for returns in found]
    assert max(means) - min(means) < 4 * error
    chance = {agent: Exploring(policy, jnp.float32(1), task.specs[agent]) for agent, policy in _first(task).items()}
    assert min(means) > evaluate(task, chance, 300, key=KEY).returns.mean() + 5


def _first(task: Conventional) -> dict[str, Moving]:
    return next(iter(task.conventions().values()))  # pyright: ignore[reportReturnType]


def test_a_member_of_another_team_is_of_little_use() -> None:
    task = CooperativeNavigation(2)
    first, second = task.conventions().values()
    alone = evaluate(task, {"agent_0": first["agent_0"], "agent_1": second["agent_1"]}, 300, key=KEY).returns
    assert alone.mean() < evaluate(task, first, 300, key=KEY).returns.mean() - 5


@pytest.mark.parametrize(
    ("name", "size"),
    [("meet", 1000), pytest.param("predator-prey", 500, marks=pytest.mark.slow), ("continuous-swap", 400)],
)
def test_logs_of_conventions_are_made_by_command(
    name: str, size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = make(capsys, f"{name}/conventions", "--size", str(size), "--out", tmp_path / "made")
    assert status == 0, text
    logs = load(tmp_path / "made")
    assert {len(log) for log in logs.values()} == {size}
    policy = json.loads((tmp_path / "made" / "dataset.json").read_text())["provenance"]["policy"]
    task = TASKS[name]
    assert isinstance(task, Conventional)
    assert policy["kind"] == "conventions" and policy["teams"] == list(task.conventions())


@pytest.mark.slow
def test_logs_of_mixed_skill_are_made_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--size", "4000")
    for kind in ("mixed", "random"):
        status, text = make(capsys, f"cooperative-navigation-2/{kind}", *size, "--out", tmp_path / kind)
        assert status == 0, text
    mixed, random = (episodes(load(tmp_path / kind)["agent_0"]).returns for kind in ("mixed", "random"))
    assert mixed.mean() > random.mean()
    policy = json.loads((tmp_path / "mixed" / "dataset.json").read_text())["provenance"]["policy"]
    assert policy["kind"] == "mixed" and policy["else"] == {"kind": "scripted", "convention": "shift-0"}


@pytest.mark.slow
def test_robots_of_mixed_skill_have_marlines_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco", reason="MuJoCo tasks need: pip install 'marline[mujoco]'")
    status, text = make(capsys, "hopper-3x1/mixed", "--size", "600", "--out", tmp_path / "mixed")
    assert status == 0, text
    policy = json.loads((tmp_path / "mixed" / "dataset.json").read_text())["provenance"]["policy"]
    assert policy["else"]["kind"] == "medium-like"
    status, text = make(capsys, "hopper-3x1/conventions", "--out", tmp_path / "none")
    assert status == 2 and "past teams of a task that has some" in text and "meet" in text


@pytest.mark.slow
def test_teams_of_robots_earn_the_same_and_fit_only_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mujoco", reason="MuJoCo tasks need: pip install 'marline[mujoco]'")
    status, text = make(capsys, "halfcheetah-2x3/conventions", "--size", "8000", "--out", tmp_path / "teams")
    assert status == 0, text
    policy = json.loads((tmp_path / "teams" / "dataset.json").read_text())["provenance"]["policy"]
    assert policy["teams"] == ["seed-0", "seed-1"]
    assert (episodes(load(tmp_path / "teams")["agent_0"]).returns > 3500).all()
    task = TASKS["halfcheetah-2x3"]
    front, back = past_teams(task).values()
    strangers = evaluate(task, {"agent_0": front["agent_0"], "agent_1": back["agent_1"]}, 2, key=KEY)
    assert (strangers.returns < 3000).all()


def test_in_turns_others_are_one_team_and_who_logs_explores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """agent_1 of swap leaves a step plain in 0.85 of them; in its turn in half of the other half, too."""
    status, text = make(capsys, "swap/in-turns", "--size", "2000", "--out", tmp_path / "turns")
    assert status == 0, text
    policy = json.loads((tmp_path / "turns" / "dataset.json").read_text())["provenance"]["policy"]
    assert policy["kind"] == "in-turns" and policy["convention"] == "plain"
    assert load(tmp_path / "turns")["agent_1"].actions.mean() == pytest.approx(0.5 * 0.85 + 0.5 * 0.5, abs=0.04)
    status, text = make(capsys, "swap/plain", "--size", "2000", "--out", tmp_path / "plain")
    assert status == 0 and load(tmp_path / "plain")["agent_1"].actions.mean() == pytest.approx(0.85, abs=0.03)


def test_what_a_task_has_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = make(capsys, "drifting-navigation/mixed", "--out", tmp_path / "none")
    assert status == 2 and "mixed data is made of the robots" in text
    status, text = make(capsys, "meet/medium", "--out", tmp_path / "none")
    assert status == 2 and "is random, mixed, conventions and in-turns" in text


@pytest.mark.slow
def test_chasers_and_those_who_wait_come_to_the_prey() -> None:
    """Any of three roles alone would be no team: one chases, two wait."""
    task = PredatorPrey()
    team = task.conventions()["chaser-1"]
    logs = collect(task, team, 3000, key=KEY)

    def nearness(agent: str) -> float:
        return float(np.mean(np.linalg.norm(logs[agent].observations[:, 2:4], axis=1)))

    assert nearness("agent_1") < min(nearness("agent_0"), nearness("agent_2"))
