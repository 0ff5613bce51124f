"""BREMEN on a linear system whose best return is known, and what must hold whatever the data."""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from continuous_worlds import discrete_experience
from jaxtyping import Array

from marline.algorithms import Algorithm
from marline.algorithms.bremen import BREMEN, State
from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.nn.actors import GaussianActor
from marline.nn.batched_cond import batched_cond
from marline.samplers import Uniform
from marline.types import Metrics, Spec, Transition

KEY = jax.random.key(0)
SPEC = Spec(2, 2)
NUM_ROWS = 512
CHUNK = 50  # updates per compiled loop; all training below is done by one program
CLONING, EVERY = 400, 20

LEARNER = BREMEN(
    hidden=(16,),
    model_learning_rate=5e-3,
    actor_learning_rate=5e-3,
    num_members=3,
    cloning_updates=CLONING,
    model_updates_per_policy_update=EVERY,
    num_rollouts=50,
    horizon=15,
    num_starts=100,
)


@dataclasses.dataclass(frozen=True)
class Distance:
    """Minus the distance of the next state to the origin."""

    def reward_of(self, observation: Array, action: Array, next_observation: Array) -> Array:
        return -jnp.sqrt(jnp.sum(jnp.square(next_observation)))


# ------------------------------------------------------------------------------------ fixtures


def make_logs(num: int = NUM_ROWS, seed: int = 0) -> dict[str, np.ndarray]:
    """s' = s + 0.1 a, reward -|s'|; actions lean to the right by 0.3 of their reach."""
    rng = np.random.default_rng(seed)
    observation = rng.uniform(-1, 1, (num, 2))
    action = 0.7 * rng.uniform(-1, 1, (num, 2)) + [0.3, 0.0]
    following = observation + 0.1 * action
    logs = {
        "observation": observation,
        "action": action,
        "reward": -np.linalg.norm(following, axis=1),
        "discount": np.ones(num),
        "next_observation": following,
    }
    return {name: column.astype(np.float32) for name, column in logs.items()}


def make_experience(logs: dict[str, np.ndarray] | None = None) -> Experience:
    rows = Transition(**{name: jax.device_put(column) for name, column in (logs or make_logs()).items()})
    return Experience.create(rows, SPEC, num_deployments=1, rows_per_deployment=8)


init = jax.jit(LEARNER.init)
imagine = jax.jit(LEARNER.imagine)
improve = jax.jit(LEARNER.improve)


rows_of = jax.jit(Experience.__getitem__)


class Trace(NamedTuple):
    """After each update: what it reported, and the policy."""

    metrics: Metrics
    actor: GaussianActor


@jax.jit
def train(state: State, experience: Experience, key: Array) -> tuple[State, Trace]:
    """`CHUNK` updates on uniform rows."""

    def step(state: State, key: Array) -> tuple[State, Trace]:
        row_key, update_key = jax.random.split(key)
        rows, _, _ = Uniform(batch_size=64).sample((), experience, None, key=row_key)
        state, metrics = LEARNER.update(state, experience[rows], key=update_key)
        return state, Trace(metrics, state.actor.model)

    return jax.lax.scan(step, state, jax.random.split(key, CHUNK))


@pytest.fixture(scope="module")
def learned() -> tuple[State, State, State, list[Trace]]:
    """Fresh, cloned, and after 60 policy steps; and the way there."""
    experience = make_experience()
    states, traces = [init(experience, key=KEY)], []
    for number in range((CLONING + 60 * EVERY) // CHUNK):
        state, trace = train(states[-1], experience, jax.random.key(number))
        states.append(state)
        traces.append(trace)
    return states[0], states[CLONING // CHUNK], states[-1], traces


@jax.jit
def true_return(actor: GaussianActor, starts: Array, std: Array, key: Array) -> Array:
    """What rollouts of the length that is imagined earn in the true system."""

    def step(state: Array, key: Array) -> tuple[Array, Array]:
        action = jax.vmap(actor.mode)(state) + std[None, :] * jax.random.normal(key, state.shape)
        state = state + 0.1 * jnp.clip(action, -1.0, 1.0)
        return state, -jnp.linalg.norm(state, axis=1)

    rewards = jax.lax.scan(step, starts, jax.random.split(key, LEARNER.horizon))[1]
    return jnp.mean(jnp.sum(rewards, axis=0))


@jax.jit
def stds(actor: GaussianActor) -> Array:
    return jnp.exp(actor.log_std)


def deployed_return(state: State) -> float:
    return float(true_return(state.actor.model, state.world.starts, jnp.array([0.0, 0.0]), KEY))


def same(first: object, second: object) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def all_finite(tree: object) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


# --------------------------------------------------------------------------------------- tests


def test_the_policy_improves_in_imagination_and_in_truth(learned: tuple[State, State, State, list[Trace]]) -> None:
    _, cloned, final, traces = learned
    # straight home at full speed in both dimensions, and stay
    starts = np.asarray(cloned.world.starts, np.float64)
    best = -sum(np.linalg.norm(np.maximum(np.abs(starts) - 0.1 * t, 0.0), axis=1).mean() for t in range(1, 16))
    assert deployed_return(cloned) < 2.5 * best
    assert deployed_return(final) > 1.15 * best
    imagined = np.concatenate([trace.metrics["imagined_return"] for trace in traces])[CLONING + EVERY - 1 :: EVERY]
    assert imagined[-10:].mean() > 0.35 * imagined[:3].mean()
    assert np.mean(np.concatenate([trace.metrics["accepted"] for trace in traces])[-10 * EVERY :]) > 0.5


def test_cloning_finds_the_mean_of_the_data(learned: tuple[State, State, State, list[Trace]]) -> None:
    fresh, cloned, _, _ = learned
    policy = LEARNER.policy(cloned)
    actions = jax.jit(lambda starts: jax.vmap(lambda s: policy(s, key=KEY))(starts))(cloned.world.starts)
    np.testing.assert_allclose(np.mean(actions, axis=0), [0.3, 0.0], atol=0.06)
    np.testing.assert_allclose(stds(cloned.actor.model), [0.3, 0.3], rtol=1e-5)
    assert same(cloned.actor.model.free_log_std, fresh.actor.model.free_log_std)


def test_imagined_returns_track_the_true_ones(learned: tuple[State, State, State, list[Trace]]) -> None:
    """Of the clone and of the final policy, with their noise, under models trained to the end."""
    _, cloned, final, _ = learned
    true, imagined = [], []
    for state in (cloned, final):
        actor = state.actor.model
        true.append(float(true_return(actor, final.world.starts, stds(actor), KEY)))
        rewards = [
            np.asarray(imagine(actor, final.ensemble.model, final.world, key=key).reward)
            for key in jax.random.split(KEY, 8)
        ]
        imagined.append(float(np.mean(np.sum(rewards, axis=1))))
    assert true[1] > 0.4 * true[0]
    np.testing.assert_allclose(imagined, true, rtol=0.08)


def test_models_learn_the_system(learned: tuple[State, State, State, list[Trace]]) -> None:
    *_, final, traces = learned
    assert np.mean(traces[-1].metrics["model_loss"]) < 0.02
    logs = make_logs(200, seed=1)

    @jax.jit
    def predict(number: int, observation: Array, action: Array) -> Array:
        member = final.ensemble.model.member(number)
        return jax.vmap(lambda s, a: final.world.scales.predict(member, s, a)[0])(observation, action)

    for number in range(LEARNER.num_members):
        following = np.asarray(predict(number, logs["observation"], logs["action"]))
        assert np.mean(np.square(following - logs["next_observation"])) < 1e-4


def test_an_update_keeps_every_type() -> None:
    """A loop that changed one, a weak type included, would be compiled twice."""
    state, experience = init(make_experience(), key=KEY), make_experience()
    after, _ = train(state, experience, KEY)
    types = [[(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(tree)] for tree in (state, after)]
    assert types[0] == types[1]


def test_cloning_first_then_one_policy_step_every_so_often() -> None:
    experience = make_experience()
    state = init(experience, key=KEY)._replace(num_updates=jnp.int32(CLONING - 5))
    after, trace = train(state, experience, KEY)
    assert int(after.num_updates) == CLONING - 5 + CHUNK
    numbers = np.arange(CLONING - 4, CLONING - 4 + CHUNK)
    start, actors = jax.tree.map(np.asarray, (state.actor.model, trace.actor))
    before = jax.tree.map(lambda first, leaf: np.concatenate([first[None], leaf[:-1]]), start, actors)
    moved = np.array(
        [not same(*(jax.tree.map(lambda x, i=i: x[i], t) for t in (before, actors))) for i in range(CHUNK)]
    )
    policy_steps = [CLONING + EVERY, CLONING + 2 * EVERY]
    np.testing.assert_array_equal(numbers[moved], [*range(CLONING - 4, CLONING + 1), *policy_steps])
    std_moved = np.any(before.free_log_std != actors.free_log_std, axis=1)
    np.testing.assert_array_equal(numbers[std_moved], policy_steps)
    # what is reported of a policy step is that of the last
    imagined = np.asarray(trace.metrics["imagined_return"])
    np.testing.assert_array_equal(numbers[np.flatnonzero(np.diff(imagined)) + 1], policy_steps)
    np.testing.assert_array_equal(trace.metrics["accepted"], numbers >= policy_steps[0])


def test_imagination_keeps_to_the_offline_data() -> None:
    """Starts come from B^0, nothing leaves its range by more than a tenth, and tuning changes neither."""
    logs = make_logs()
    experience = make_experience(logs)
    state = init(experience, key=KEY)
    known = {tuple(row) for row in logs["observation"]}
    assert len({tuple(row) for row in np.asarray(state.world.starts)} & known) == LEARNER.num_starts
    wild = jax.tree.map(lambda leaf: jax.device_put(10 * np.asarray(leaf)), state.ensemble.model)
    observation = np.asarray(imagine(state.actor.model, wild, state.world, key=KEY).observation)
    assert {tuple(row) for row in observation[0]} <= known
    seen = np.concatenate([logs["observation"], logs["next_observation"]])
    margin = 0.1 * np.ptp(seen, axis=0)
    np.testing.assert_allclose(observation[1:].min(axis=(0, 1)), seen.min(axis=0) - margin, rtol=1e-5)
    np.testing.assert_allclose(observation[1:].max(axis=(0, 1)), seen.max(axis=0) + margin, rtol=1e-5)

    elsewhere = {name: column[:8] + np.float32(50.0) for name, column in make_logs(seed=3).items()}
    merged = experience.merge(Transition(**{name: jax.device_put(column) for name, column in elsewhere.items()}), 1)
    assert same(train(state, merged, KEY)[0].world, state.world)


def test_the_reward_may_be_known(learned: tuple[State, State, State, list[Trace]]) -> None:
    knowing = dataclasses.replace(LEARNER, known_reward=Distance())
    *_, final, _ = learned
    rollouts = jax.jit(knowing.imagine)(final.actor.model, final.ensemble.model, final.world, key=KEY)
    following = np.concatenate([np.asarray(rollouts.observation)[1:], np.asarray(rollouts.end)[None]])
    np.testing.assert_allclose(rollouts.reward, -np.linalg.norm(following, axis=-1), rtol=1e-5)
    # and is then not learned
    experience = make_experience()
    state = jax.eval_shape(knowing.init, experience, key=KEY)
    assert not state.world.scales.learn_reward
    assert state.ensemble.model.networks.layers[-1].bias.shape == (LEARNER.num_members, 2)
    after, _ = jax.eval_shape(knowing.update, state, rows_of(experience, np.arange(8)), key=KEY)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )


def test_a_policy_step_stays_in_the_trust_region_and_without_one_nothing_moves() -> None:
    state = init(make_experience(), key=KEY)
    actor = state.actor.model
    modes, rng = jax.jit(lambda actor, observation: jax.vmap(actor.mode)(observation)), np.random.default_rng(0)
    observation = rng.uniform(-1, 1, (300, 2)).astype("f4")
    action = np.asarray(modes(actor, observation)) + rng.normal(0, 0.3, (300, 2)).astype("f4")
    advantages = action[:, 0] - action[:, 1]
    new, kl, accepted = improve(actor, observation, action, advantages)
    assert bool(accepted)
    means = [np.asarray(modes(a, observation), np.float64) for a in (actor, new)]
    log_stds = [np.asarray(a.log_std, np.float64) for a in (actor, new)]
    exponent = np.exp(2 * (log_stds[0] - log_stds[1])) + ((means[0] - means[1]) / np.exp(log_stds[1])) ** 2 - 1
    expected = np.mean(np.sum(log_stds[1] - log_stds[0] + exponent / 2, axis=1))
    assert float(kl) == pytest.approx(expected, rel=1e-2)
    assert 0.2 * LEARNER.max_kl < expected <= 1.5 * LEARNER.max_kl
    assert np.mean(means[1] - means[0], axis=0) @ [1.0, -1.0] > 0.01

    for useless in (0.0, np.nan):
        unmoved, _, accepted = improve(actor, observation, action, np.full(300, useless, np.float32))
        assert not bool(accepted) and same(unmoved, actor)
    tiny = dataclasses.replace(LEARNER, max_kl=1e-12)
    unmoved, _, _ = jax.jit(tiny.improve)(actor, observation, action, advantages)
    for leaf, old in zip(jax.tree.leaves(unmoved), jax.tree.leaves(actor), strict=True):
        np.testing.assert_allclose(leaf, old, atol=1e-5)


def hostile_logs() -> dict[str, dict[str, np.ndarray]]:
    plain = make_logs()
    return {
        "actions on their bounds": {**plain, "action": np.where(plain["action"] > 0, 1.0, -1.0).astype(np.float32)},
        "huge rewards": {**plain, "reward": np.where(plain["reward"] > -0.5, 1e6, -1e6).astype(np.float32)},
        "constant observations": {
            **plain,
            "observation": np.full_like(plain["observation"], 1e6),
            "next_observation": np.full_like(plain["observation"], 1e6),
        },
        "next observations elsewhere": {**plain, "next_observation": plain["next_observation"] + 1e6},
    }


@pytest.mark.parametrize("name", hostile_logs())
def test_hostile_data_leaves_everything_finite(name: str) -> None:
    experience = make_experience(hostile_logs()[name])
    state = init(experience, key=KEY)
    for skipped in (0, CLONING):  # cloning, then policy steps
        state, trace = train(state._replace(num_updates=jnp.int32(skipped)), experience, KEY)
        assert all_finite(trace)
    assert all_finite(state)


def test_a_batch_unlike_the_offline_data_leaves_everything_finite() -> None:
    state = init(make_experience(), key=KEY)._replace(num_updates=jnp.int32(CLONING))
    logs = make_logs()
    logs["next_observation"] += 1e6
    assert all_finite(train(state, make_experience(logs), KEY))


def test_the_policy_is_the_mean_and_there_is_no_critic() -> None:
    state = init(make_experience(), key=KEY)
    policy = LEARNER.policy(state)
    observation = jnp.array([0.3, -0.2])
    act = jax.jit(lambda key: (policy(observation, key=key), state.actor.model.mlp(observation)))
    action, output = act(KEY)
    np.testing.assert_array_equal(action, act(jax.random.key(1))[0])
    np.testing.assert_allclose(action, np.tanh(output), rtol=1e-6)
    assert LEARNER.critic(state) is None
    assert isinstance(LEARNER, Algorithm)


def test_discrete_actions_are_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match='continuous.*"cql"'):
        LEARNER.init(discrete_experience(), key=KEY)


# ----------------------------------------------------------------------------------- stacking


def count_and_square(changing: tuple[Array, Array], factor: Array) -> tuple[Array, Array]:
    count, value = changing
    return count + 1, factor * value**2


def now_and_then(predicate: Array, changing: tuple[Array, Array], factor: Array) -> tuple[Array, Array]:
    return batched_cond(predicate, count_and_square, changing, factor)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_stacked_learners_take_each_its_own_turn(depth: int) -> None:
    shape = (2, 3)[:depth]
    predicate = np.random.default_rng(0).random(shape) < 0.5
    changing = np.zeros(shape, int), np.arange(1.0, 1.0 + 4 * np.prod(shape, dtype=int), dtype="f4").reshape(*shape, 4)
    function = now_and_then
    for _ in shape:
        function = jax.vmap(function, in_axes=(0, 0, None))
    count, value = jax.jit(function)(predicate, changing, jnp.float32(0.5))
    np.testing.assert_array_equal(count, np.asarray(predicate).astype(int))
    np.testing.assert_allclose(value, np.where(np.asarray(predicate)[..., None], 0.5 * changing[1] ** 2, changing[1]))


def test_stacked_learners_skip_what_none_of_them_needs() -> None:
    """A plain condition would become a choice between two results, both computed."""
    stacked = jax.jit(lambda tree: jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), tree))(
        (init(make_experience(), key=KEY), KEY)
    )
    batch = rows_of(make_experience(), np.arange(8))
    update = jax.vmap(lambda state, key: LEARNER.update(state, batch, key=key))
    equations = jax.make_jaxpr(update)(*stacked).jaxpr.eqns
    gates = [equation for equation in equations if "custom_vmap" in equation.primitive.name]
    assert [gate.invars[0].aval.shape for gate in gates] == [(), ()]  # whether any needs it
    outside = {equation.primitive.name for equation in equations}
    assert not outside & {"while", "scan", "cond", "qr"}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hidden", (4, 0)),
        ("model_learning_rate", 0.0),
        ("actor_learning_rate", float("inf")),
        ("gamma", 1.01),
        ("gamma", float("nan")),
        ("num_members", 0),
        ("cloning_updates", -1),
        ("model_updates_per_policy_update", 0),
        ("num_rollouts", 0),
        ("horizon", 0),
        ("num_starts", 0),
        ("initial_std", 0.0),
        ("initial_std", 1.0),
        ("max_kl", -0.1),
        ("max_kl", float("nan")),
        ("gae_lambda", 1.1),
        ("damping", 0.0),
        ("conjugate_gradient_iterations", 0),
        ("num_halvings", -1),
    ],
)
def test_impossible_options_are_refused_by_name_and_value(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {re.escape(str(value))}"):
        BREMEN(**{option: value})  # pyright: ignore[reportArgumentType]
