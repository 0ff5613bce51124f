"""Logged rows that tell what today's law foretells: by hand where the laws are linear, and learned once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_laws import NUM_OFFLINE, World, case
from readable_rows import CRITIC

from marline.configuration.planning import plan_study
from marline.configuration.run_config import RunConfig
from marline.data.checkpoints import load_checkpoint, save_checkpoint
from marline.data.experience import Experience
from marline.data.normalization import Normalizer
from marline.envs import DriftingNavigation, make_task
from marline.errors import ConfigError
from marline.inputs.options import with_options
from marline.nn.dynamics import DynamicsScales
from marline.nn.mlp import MLP, Linear
from marline.nn.outcome_law import OutcomeLaw
from marline.ops.weighted_rows import uniform_table
from marline.samplers import DynamicsRatio, Retarget, Uniform, batch_of, prefers_rows
from marline.samplers import dynamics_ratio as gate
from marline.samplers.retarget import Range, State
from marline.testing import check_sampler
from marline.types import Spec, Transition

KEY = jax.random.key(0)
LEARNED = DynamicsRatio(
    hidden=(32,), learning_rate=5e-3, law_batch_size=128, offline_updates=800, num_updates=200, check_every=20
)
SMALL = DynamicsRatio(
    batch_size=16, hidden=(4,), law_batch_size=8, offline_updates=20, num_updates=10, check_every=5, confidence=0.0
)
SCALE = 2.0  # of outcomes, so that units count


def laws(*weights: Any) -> OutcomeLaw:
    """Stacked; each foretells y = weight (s, a), in units of the logs, where s and a are in theirs."""
    matrix = jnp.asarray(weights, jnp.float32)  # [members, in, out]
    matrix = jnp.concatenate([matrix, jnp.zeros_like(matrix)], axis=-1)
    return jax.vmap(lambda weight: OutcomeLaw(MLP((Linear(weight, jnp.zeros(weight.shape[1])),))))(matrix)


def state_of(experience: Experience, today: OutcomeLaw, logs: OutcomeLaw, *, is_open: bool = True) -> State:
    """s' - s and r are 2 y."""
    spec = experience.spec
    seen, done = (Normalizer.identity(size) for size in (spec.observation_size, spec.action_size))
    scales = DynamicsScales(seen, done, Normalizer(jnp.zeros(2), jnp.full(2, SCALE)))
    first = jax.tree.map(lambda leaf: leaf[0], logs)
    logged = Range(jnp.array([[-10.0], [10.0]]), jnp.array([-10.0, 10.0]))
    memory = gate.State(scales, first, uniform_table(experience.num_offline))
    return State(memory, today, logs, logged, jnp.bool_(is_open))


def continuous() -> Experience:
    """Rows: plain, one that ends, one of whose end nobody knows what came after, far out; then one of today."""
    seen, action = jnp.array([[1.0], [1.0], [1.0], [9.0]]), jnp.array([[0.5], [0.5], [0.5], [1.0]])
    after, discount = jnp.array([[0.0], [0.0], [1.0], [0.0]]), jnp.array([1.0, 0.0, 0.0, 1.0])
    offline = Transition(seen, action, jnp.array([7.0, 8.0, 9.0, 6.0]), discount, after)
    online = jax.tree.map(lambda leaf: leaf[:1], offline)
    return Experience.create(offline, Spec(1, 1), num_deployments=1, rows_per_deployment=1).merge(online, 1)


ROWS = jnp.arange(5)
# s' - s = 2 y[0] and r = 2 y[1], of (s, a): the logs' law has -.5 s + .2 a and s; of today's members the one has
# -.5 s + .6 a and 2 s, the other -.5 s + 1 a and .5 s: they agree on .6 a, and on nothing but the logs' of r
LOGS = laws(*[[[-0.5, 1.0], [0.2, 0.0]]] * 2)
TODAY = laws([[-0.5, 2.0], [0.6, 0.0]], [[-0.5, 0.5], [1.0, 0.0]])


def told(sampler: Retarget, experience: Experience, state: State) -> Transition:
    return jax.jit(lambda state: batch_of(sampler, state, ROWS, experience, key=KEY))(state)


@pytest.mark.parametrize(("law", "after"), [("today", 1 + 2 * (-0.5 + 0.3)), ("logs", 1 + 2 * (-0.5 + 0.1))])
def test_by_hand_only_rows_of_the_logs_that_went_on_are_told_anew(law: Any, after: float) -> None:
    experience = continuous()
    found = told(Retarget(law), experience, state_of(experience, TODAY, LOGS))
    far = 9 + 2 * (-4.5 + (0.6 if law == "today" else 0.2))
    np.testing.assert_allclose(found.next_observation[:, 0], [after, 0, 1, far, 0], rtol=1e-6)
    np.testing.assert_allclose(found.reward, [2, 8, 9, 10, 7], rtol=1e-6)  # 18 was never logged, 10 was
    logged = experience[ROWS]
    for name in ("observation", "action", "discount"):
        np.testing.assert_array_equal(getattr(found, name), getattr(logged, name))


@dataclasses.dataclass(frozen=True)
class Knows:
    """Pays 100 s' + a."""

    def reward_of(self, observation: Any, action: Any, next_observation: Any) -> Any:
        return 100 * next_observation[0] + jnp.sum(action)


def test_by_hand_a_reward_that_is_known_is_paid_for_what_is_foretold() -> None:
    experience = continuous()
    found = told(Retarget(known_reward=Knows()), experience, state_of(experience, TODAY, LOGS))
    np.testing.assert_allclose(found.reward[:3], [100 * 0.6 + 0.5, 8, 9], rtol=1e-6)
    assert found.reward[4] == 7


def test_by_hand_choices_and_their_masks_stay() -> None:
    """Of three choices the second moves by 2 today, and by 1 in the logs."""
    rng = np.random.default_rng(0)
    masks = jnp.asarray(rng.random((4, 3)) < 0.5)
    offline = Transition(jnp.zeros((4, 1)), jnp.array([0, 1, 2, 1]), jnp.zeros(4), jnp.ones(4), jnp.ones((4, 1)))
    offline = offline._replace(action_mask=masks, next_action_mask=~masks)
    online = jax.tree.map(lambda leaf: leaf[:1], offline)
    spec = Spec(1, 3, discrete=True)
    experience = Experience.create(offline, spec, num_deployments=1, rows_per_deployment=1).merge(online, 1)
    by_logs, by_today = ([[[0.0, 0.0], [0.0, 0.0], [push, 0.0], [0.0, 0.0]]] * 2 for push in (0.5, 1.0))
    found = told(Retarget(), experience, state_of(experience, laws(*by_today), laws(*by_logs)))
    np.testing.assert_allclose(found.next_observation[:, 0], [0, 2, 0, 2, 1])
    for name in ("action", "action_mask", "next_action_mask"):
        np.testing.assert_array_equal(getattr(found, name), getattr(experience[ROWS], name))


def test_a_shut_gate_is_uniform_replay_alone_and_beside_one_that_is_open() -> None:
    experience, sampler = continuous(), Retarget(gate=DynamicsRatio(batch_size=16))
    shut = state_of(experience, TODAY, LOGS, is_open=False)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), shut, state_of(experience, TODAY, LOGS))
    beside = jax.jit(jax.vmap(lambda state: batch_of(sampler, state, ROWS, experience, key=KEY)))(both)
    for found in (told(sampler, experience, shut), jax.tree.map(lambda leaf: leaf[0], beside)):
        jax.tree.map(np.testing.assert_array_equal, found, experience[ROWS])
    alone = told(sampler, experience, state_of(experience, TODAY, LOGS))
    jax.tree.map(lambda one, many: np.testing.assert_allclose(many[1], one, rtol=1e-5), alone, beside)
    for number in range(3):
        key = jax.random.key(number)
        rows = sampler.sample(shut, experience, CRITIC, key=key)[0]
        np.testing.assert_array_equal(rows, Uniform(batch_size=16).sample((), experience, CRITIC, key=key)[0])


def test_a_memory_read_back_tells_the_same(tmp_path: Path) -> None:
    experience = continuous()
    state = state_of(experience, TODAY, LOGS)
    save_checkpoint(tmp_path / "there", {"sampler": state}, {})
    read, _ = load_checkpoint(tmp_path / "there", {"sampler": jax.eval_shape(lambda: state)})
    first, second = (told(Retarget(), experience, its) for its in (state, read["sampler"]))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.slow
def test_learned_targets_move_to_those_of_today_and_the_control_s_do_not() -> None:
    """Logs push by .5 and today by -.5; rewards are noise, of which laws foretell nothing."""
    experience = case(World(0.5), World(-0.5), 0)
    sampler = Retarget(gate=LEARNED)

    @jax.jit
    def learn(experience: Experience) -> Any:
        state = sampler.init(experience, key=KEY)
        state, metrics = sampler.begin_deployment(state, experience, CRITIC, key=KEY)
        rows = jnp.arange(NUM_OFFLINE)
        batches = [batch_of(its, state, rows, experience, key=KEY) for its in (sampler, Retarget("logs", gate=LEARNED))]
        return batches, dict(metrics)

    batches, metrics = learn(experience)
    logged = experience.offline()
    assert metrics["gate_open"] == 1.0 and metrics["target_shift"] > 0.1

    def push(batch: Transition) -> float:
        moved = np.asarray(batch.next_observation - logged.observation - jnp.sin(2 * logged.observation))[:, 0]
        return float(np.polyfit(np.asarray(logged.action)[:, 0], moved, 1)[0])

    # members count as far as they agree, so that targets go a little less far
    assert [push(batch) for batch in (*batches, logged)] == pytest.approx([-0.45, 0.5, 0.5], abs=0.1)
    assert all(np.std(batch.reward) < 0.3 < np.std(logged.reward) for batch in batches)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["today", "logs"])
def test_the_rules_for_samplers_are_kept(law: Any) -> None:
    check_sampler(Retarget(law, gate=SMALL))


def test_a_run_tells_it_what_the_task_knows_and_keeps_it() -> None:
    config = plan_study(
        task="drifting-navigation",
        samplers=("uniform", "retarget(offline_updates=2, num_updates=2)", "retarget-logs"),
        dataset_size=200,
        offline_updates=1,
        deployments=1,
        updates=1,
        hidden=(2,),
    )
    assert config.samplers["retarget-logs"] == Retarget("logs").informed_by(make_task("drifting-navigation"))
    first = config.samplers["retarget-offline_updates-2-num_updates-2"]
    assert isinstance(first, Retarget) and first.gate.offline_updates == 2
    assert isinstance(first.known_reward, DriftingNavigation)
    assert RunConfig.from_json(config.to_json()) == config


def test_what_cannot_be_is_refused() -> None:
    assert not prefers_rows(Retarget())
    with pytest.raises(ConfigError, match="law"):
        with_options(Retarget(), {"law": "tomorrow"}, "retarget")
