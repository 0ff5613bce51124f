"""SMAX: what is known without JaxMARL, and battles where it is installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline import cli
from marline.behaviour_policy.battles import read_battle_team, shipped_battle_team, target_return
from marline.data.check import check
from marline.data.checkpoints import read_manifest
from marline.data.dataset import load
from marline.envs import Smax, World, make_task
from marline.errors import ConfigError
from marline.rollouts.collection import collect_random
from marline.types import Spec

needs_jaxmarl = pytest.mark.skipif(
    importlib.util.find_spec("jaxmarl") is None, reason="SMAX needs: pip install 'marline[smac]'"
)


@pytest.fixture
def battle() -> Iterator[Smax]:
    """Two against two; JaxMARL broadcasts where we would not."""
    with jax.numpy_rank_promotion("allow"):
        yield Smax(2, 2, horizon=30)


def test_what_is_known_without_jaxmarl(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task("smax-5m_vs_6m")
    assert isinstance(task, World) and task.horizon == 100 and len(task.agents) == 5
    assert set(task.specs.values()) == {Spec(140, 11, discrete=True)}
    assert "SMAX, which is not SMAC" in task.description
    monkeypatch.setitem(sys.modules, "jaxmarl", None)
    with pytest.raises(ConfigError, match=r"SMAX needs JaxMARL.*pip install 'marline\[smac\]'"):
        Smax(4, 4).reset(key=jax.random.key(0))
    with pytest.raises(ConfigError, match="num_enemies is 0"):
        Smax(5, 0)


@needs_jaxmarl
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_battles_by_what_is_logged(battle: Smax) -> None:
    first, second = collect_random(battle, 300, seed=0).values()
    check({"agent_0": first, "agent_1": second})
    assert first.spec == Spec(13 * 3 + 10, 7, discrete=True)
    np.testing.assert_array_equal(first.rewards, second.rewards)  # of the team
    assert first.terminals.any() and np.isfinite(first.next_observations).all()
    lengths = np.diff(np.flatnonzero(first.terminals | first.timeouts), prepend=-1)
    assert lengths.max() <= 30
    for log in (first, second):
        assert log.action_masks is not None
        own_health = log.observations[:, -10]
        dead = own_health == 0.0
        assert dead.any() and not log.observations[dead].any()
        # the dead may only stay; the living may always stay or move
        np.testing.assert_array_equal(log.action_masks[dead], np.arange(7) == np.full((dead.sum(), 1), 4))
        assert log.action_masks[~dead, :5].all()
        # none is shot at who is out of range, or dead
        enemies = log.observations[:, 13:39].reshape(-1, 2, 13)
        within = (np.linalg.norm(enemies[:, :, 1:3], axis=-1) * 9.0 < 5.0) & (enemies[:, :, 0] > 0)
        np.testing.assert_array_equal(log.action_masks[~dead, 5:], within[~dead])


def test_the_medium_team_that_comes_with_marline_obeys_masks_and_is_one_network() -> None:
    task = Smax()
    folder = shipped_battle_team(task, "medium")
    assert folder is not None and shipped_battle_team(Smax(2, 2), "medium") is None
    told = read_manifest(folder)
    assert told["evaluation"]["mean_return"] >= target_return("medium") == pytest.approx(2 / 3)
    assert all(one["mean_return"] < target_return("medium") for one in told["evaluations"][:-1])
    team = read_battle_team(folder, task)
    policy = team["agent_0"]
    assert list(team) == list(task.agents) and all(one is policy for one in team.values())
    only_shot = np.arange(11) == 7

    @jax.jit
    def act(seen: Array, two: Array, one: Array) -> tuple[Array, Array]:
        return policy.actor.log_probabilities(seen, two), policy(seen, key=jax.random.key(0), action_mask=one)

    logs, action = act(np.zeros(140, np.float32), only_shot | (np.arange(11) == 3), only_shot)
    shares = np.exp(logs)
    assert float(shares.sum()) == pytest.approx(1.0) and float(shares[[0, 10]].sum()) == 0.0
    assert int(action) == 7


@pytest.mark.slow
@needs_jaxmarl
@pytest.mark.filterwarnings("ignore")
def test_logs_of_the_medium_team(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop, jax.numpy_rank_promotion("allow"):
        cli.main(["data", "make", "smax-5m_vs_6m/medium", "--size", "300", "--out", str(tmp_path / "logs")])
    assert not stop.value.code
    provenance = json.loads((tmp_path / "logs" / "dataset.json").read_text("utf-8"))["provenance"]
    assert provenance["policy"]["kind"] == "medium-like" and "jaxmarl" in provenance["versions"]
    assert {len(log) for log in load(tmp_path / "logs").values()} == {300}


@needs_jaxmarl
@pytest.mark.filterwarnings("ignore")
def test_a_victory_pays_one_and_ends_the_battle(battle: Smax) -> None:
    @jax.jit
    def last_shot() -> tuple[Array, Array, Array, Array]:
        state = battle.reset(key=jax.random.key(0))
        # the last enemy stands beside an ally, about to die
        units = state.state
        units = units.replace(
            unit_health=jnp.array([45.0, 45.0, 0.0, 1.0]),
            unit_alive=jnp.array([True, True, False, True]),
            unit_positions=jnp.array([[8.0, 16.0], [8.0, 14.0], [24.0, 16.0], [10.0, 16.0]]),
        )
        state = state.replace(state=units)
        actions = {"agent_0": jnp.int32(6), "agent_1": jnp.int32(4)}
        after, reward, over = battle.step(state, actions, key=jax.random.key(1))
        return battle.action_masks(state)["agent_0"], after.state.unit_health, reward, over

    mask, health, reward, over = last_shot()
    assert mask.tolist() == [True] * 5 + [False, True]
    assert over and float(reward) >= 1.0
    assert float(reward) == pytest.approx(1.0 + (1.0 - float(np.asarray(health)[3])) / 45.0 / 2, abs=1e-5)
