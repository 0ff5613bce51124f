"""BCQ: its parts by hand, a bandit whose data cover part of the actions, and a chain of known values."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from continuous_worlds import discrete_experience

from marline.algorithms import BCQ, TD3BC
from marline.algorithms.bcq import State, prior_latents
from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.nn.cvae import ConditionalVAE
from marline.ops.variational import gaussian_kl
from marline.types import Spec, Transition

KEY = jax.random.key(0)
SPEC = Spec(3, 2)
TINY = BCQ(hidden=(8, 8), num_policy_candidates=20)
NUM_ROWS = 40
TINY_INIT, TINY_UPDATE = TINY.init, TINY.update
target_candidates = jax.jit(TINY.target_candidates)


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function)


def make_batch(seed: int = 0) -> Transition:
    rng = np.random.default_rng(seed)
    leaves = {
        "observation": rng.normal(size=(NUM_ROWS, 3)),
        "action": rng.uniform(-1, 1, (NUM_ROWS, 2)),
        "reward": rng.normal(size=NUM_ROWS),
        "discount": np.arange(NUM_ROWS) % 4 != 0,
        "next_observation": rng.normal(size=(NUM_ROWS, 3)),
    }
    return Transition(**{name: jax.device_put(np.asarray(leaf, np.float32)) for name, leaf in leaves.items()})


def make_state(batch: Transition | None = None, spec: Spec = SPEC) -> State:
    experience = Experience.create(batch or make_batch(), spec, num_deployments=1, rows_per_deployment=1)
    return compiled(TINY_INIT)(experience, key=KEY)


def all_finite(tree: object) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


def differs(first: object, second: object) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return any(not np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)


def train(algorithm: BCQ | TD3BC, experience: Experience, num_updates: int) -> Any:
    """`num_updates` on batches of 64 uniform rows, in one compiled loop."""

    @jax.jit
    def loop(experience: Experience) -> Any:
        def step(state: Any, key: jax.Array) -> tuple[Any, None]:
            rows = jax.random.randint(key, (64,), 0, experience.num_offline)
            return algorithm.update(state, experience[rows], key=key)[0], None

        start: Any = algorithm.init(experience, key=KEY)
        return jax.lax.scan(step, start, jax.random.split(KEY, num_updates))[0]

    return loop(experience)


# ------------------------------------------------------------------------------------ the parts


def test_the_kl_term_by_hand() -> None:
    mean, std = jnp.array([0.5, -1.0]), jnp.array([1.0, 0.5])
    kl = gaussian_kl(mean, jnp.log(std))
    np.testing.assert_allclose(kl, [0.125, 0.818147], rtol=1e-5)
    np.testing.assert_allclose(TINY.kl_weight * jnp.mean(kl), 0.235787, rtol=1e-5)


def test_the_loss_of_the_autoencoder_is_reconstruction_and_kl() -> None:
    batch = make_batch()

    @jax.jit
    def parts(vae: ConditionalVAE) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        noise = jax.random.normal(KEY, (NUM_ROWS, 4))
        mean, log_std = jax.vmap(vae.encode)(batch.observation, batch.action)
        decoded = jax.vmap(vae.decode)(batch.observation, mean + jnp.exp(log_std) * noise)
        return TINY.vae_loss(vae, batch, key=KEY), mean, log_std, decoded

    loss, mean, log_std, decoded = (np.asarray(part) for part in parts(make_state().vae.model))
    kl = -0.5 * (1 + 2 * log_std - mean**2 - np.exp(2 * log_std))
    expected = np.mean((np.tanh(decoded) - np.asarray(batch.action)) ** 2) + 0.5 * np.mean(kl)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_latents_of_the_prior_are_cut() -> None:
    latents = np.asarray(prior_latents((500, 4), key=KEY))
    assert np.abs(latents).max() == 0.5
    assert 0.5 < np.mean(np.abs(latents) == 0.5) < 0.72  # 62 % of a standard normal lies beyond


def test_an_action_is_moved_by_at_most_phi_and_stays_in_bounds() -> None:
    actor = dataclasses.replace(make_state().actor.model, max_perturbation=0.3)
    still = dataclasses.replace(actor, max_perturbation=0.0)
    batch = make_batch()

    @jax.jit
    def act(observation: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(actor)(100 * observation, action), jax.vmap(still)(observation, action)

    moved, unmoved = act(batch.observation, batch.action)
    assert np.abs(moved).max() <= 1.0
    assert 0.25 < np.abs(np.asarray(moved) - np.clip(np.asarray(batch.action), -1, 1)).max() <= 0.3 + 1e-6
    np.testing.assert_array_equal(unmoved, batch.action)


def test_the_target_takes_the_best_candidate_after_mixing_the_critics() -> None:
    state, batch = make_state(), make_batch()
    first, second = (np.asarray(q) for q in target_candidates(state, batch.next_observation, key=KEY))
    assert first.shape == (NUM_ROWS, 10)
    mixed = 0.75 * np.minimum(first, second) + 0.25 * np.maximum(first, second)
    expected = np.asarray(batch.reward) + 0.99 * np.asarray(batch.discount) * mixed.max(axis=1)
    target = np.asarray(jax.jit(TINY.target)(state, batch, key=KEY))
    np.testing.assert_allclose(target, expected, rtol=1e-5)
    terminal = np.asarray(batch.discount) == 0
    np.testing.assert_array_equal(target[terminal], np.asarray(batch.reward)[terminal])


def test_the_candidates_of_a_state_are_its_own() -> None:
    """One state's candidates do not depend on what else is in the batch."""
    state, batch = make_state(), make_batch()
    whole, _ = target_candidates(state, batch.next_observation, key=KEY)
    other = np.full((NUM_ROWS, 3), 7.0, np.float32)
    other[0] = batch.next_observation[0]
    alone, _ = target_candidates(state, jax.device_put(other), key=KEY)
    np.testing.assert_allclose(np.asarray(alone)[0], np.asarray(whole)[0], rtol=1e-5)


def test_an_update_moves_every_network_and_the_targets_slowly() -> None:
    state, batch = make_state(), make_batch()
    after, metrics = compiled(TINY_UPDATE)(state, batch, key=KEY)
    for name in ("vae", "actor", "critic", "target_actor", "target_critic"):
        assert differs(getattr(state, name), getattr(after, name)), name
    trees = (after.target_critic, after.critic.model, state.target_critic)
    for slow, new, old in zip(*(jax.tree.leaves(tree) for tree in trees), strict=True):
        np.testing.assert_allclose(slow, 0.005 * np.asarray(new) + 0.995 * np.asarray(old), atol=1e-7)
    assert {"critic_loss", "mean_q", "vae_loss"} == set(metrics)


def test_a_weight_of_one_changes_nothing_and_of_zero_stops_the_critics() -> None:
    state, batch = make_state(), make_batch()
    plain, _ = compiled(TINY_UPDATE)(state, batch, key=KEY)
    step = jax.jit(lambda weight: TINY.update(state, batch, key=KEY, weight=weight)[0])
    weighted = step(np.ones(NUM_ROWS, np.float32)).critic.model
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-7), weighted, plain.critic.model)
    assert not differs(step(np.zeros(NUM_ROWS, np.float32)).critic.model, state.critic.model)


# ------------------------------------------------------------------------- what is deployed, and seen


def test_the_policy_is_the_best_candidate_and_depends_on_the_key_alone() -> None:
    state = make_state()
    policy, observation = TINY.policy(state), jnp.array([0.3, -1.0, 2.0])

    @jax.jit
    def act(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        candidates = policy.proposal(observation, 20, key=key)
        q_values = jax.vmap(policy.critic, in_axes=(None, 0))(observation, candidates)
        return policy(observation, key=key), candidates, q_values

    action, candidates, q_values = act(KEY)
    np.testing.assert_allclose(action, np.asarray(candidates)[np.argmax(q_values)], rtol=1e-6)
    np.testing.assert_array_equal(act(KEY)[0], action)
    assert differs(act(jax.random.key(1))[0], action)


def test_values_are_the_mean_or_the_maximum_over_candidates() -> None:
    state, observation = make_state(), jnp.array([0.3, -1.0, 2.0])
    critic, best = TINY.critic(state), dataclasses.replace(TINY, value="max").critic(state)

    @jax.jit
    def judge(observation: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        q_values = jax.vmap(critic.q, in_axes=(None, 0))(observation, critic.proposal(observation, 10, key=KEY))
        return critic.v(observation, key=KEY), best.v(observation, key=KEY), q_values

    mean, maximum, q_values = judge(observation)
    np.testing.assert_allclose(mean, np.mean(q_values), rtol=1e-5)
    np.testing.assert_allclose(maximum, np.max(q_values), rtol=1e-5)


# ------------------------------------------------------------------------------ known answers


def bandit() -> Experience:
    """One state; actions in [0, 0.3], the reward grows with the action."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(0.0, 0.3, (500, 1)).astype(np.float32)
    nothing = jnp.zeros((500, 1))
    rows = Transition(nothing, jax.device_put(actions), jax.device_put(actions[:, 0]), jnp.zeros(500), nothing)
    return Experience.create(rows, Spec(1, 1), num_deployments=0, rows_per_deployment=0)


@pytest.mark.slow
def test_stays_where_the_data_are_and_an_unconstrained_actor_leaves() -> None:
    def chosen(algorithm: BCQ | TD3BC) -> np.ndarray:
        policy: Any = algorithm.policy(train(algorithm, bandit(), 1500))
        return np.asarray(jax.vmap(lambda key: policy(jnp.zeros(1), key=key))(jax.random.split(KEY, 20)))

    constrained = chosen(BCQ(hidden=(16, 16), critic_learning_rate=3e-3, actor_learning_rate=1e-3))
    assert np.all(constrained > 0.15)  # the better half of what it saw
    assert np.all(constrained < 0.3 + 0.05 + 0.1)
    free = chosen(TD3BC(hidden=(16, 16), learning_rate=3e-3, alpha_bc=1e6))
    assert np.all(free > 0.6)  # twice as far as any logged action


def test_learns_the_values_of_a_chain() -> None:
    """Two steps, each paid 1, whatever the action: Q(second) = 1 and Q(first) = 1 + 0.5."""
    rng = np.random.default_rng(0)
    place = rng.integers(2, size=600)
    rows = Transition(
        jax.device_put(np.asarray(place[:, None], np.float32)),
        jax.device_put(np.asarray(rng.uniform(-1, 1, (600, 1)), np.float32)),
        jax.device_put(np.ones(600, np.float32)),
        jax.device_put(np.asarray(place == 0, np.float32)),
        jax.device_put(np.ones((600, 1), np.float32)),
    )
    experience = Experience.create(rows, Spec(1, 1), num_deployments=0, rows_per_deployment=0)
    algorithm = BCQ(hidden=(16, 16), critic_learning_rate=3e-3, gamma=0.5, target_step_size=0.05)
    critic = algorithm.critic(train(algorithm, experience, 700))
    actions = jax.device_put(np.asarray(np.linspace(-0.9, 0.9, 7)[:, None], np.float32))
    judge = jax.jit(jax.vmap(critic.q, in_axes=(None, 0)))
    for observation, value in ((0.0, 1.5), (1.0, 1.0)):
        np.testing.assert_allclose(judge(jnp.array([observation]), actions), value, atol=0.08)


# ---------------------------------------------------------------------------------- hard cases


def constant(value: float, *size: int) -> jax.Array:
    return jax.device_put(np.full((NUM_ROWS, *size), value, np.float32))


def hostile_batches() -> dict[str, Transition]:
    plain = make_batch()
    return {
        "all terminal": plain._replace(discount=constant(0.0)),
        "one repeated row": jax.tree.map(lambda column: jax.device_put(np.asarray(column)[[0] * NUM_ROWS]), plain),
        "rewards of a million": plain._replace(
            reward=jax.device_put(np.asarray(np.copysign(1e6, plain.reward), np.float32))
        ),
        "constant observations": plain._replace(observation=constant(1e3, 3), next_observation=constant(1e3, 3)),
    }


@pytest.mark.parametrize("name", hostile_batches())
def test_hostile_batches_leave_everything_finite(name: str) -> None:
    batch = hostile_batches()[name]
    state = make_state(batch)
    for _ in range(3):
        state, metrics = compiled(TINY_UPDATE)(state, batch, key=KEY)
        assert all_finite((state, metrics))


def test_discrete_actions_are_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match="continuous.*cql"):
        TINY.init(discrete_experience(), key=KEY)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hidden", (4, 0)),
        ("vae_hidden", (0,)),
        ("vae_learning_rate", 0.0),
        ("gamma", 1.5),
        ("minimum_weight", 1.1),
        ("max_perturbation", -0.1),
        ("kl_weight", -1.0),
        ("num_target_candidates", 0),
        ("target_step_size", 0.0),
    ],
)
def test_impossible_options_are_refused_by_name_and_value(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {re.escape(str(value))}"):
        BCQ(**{option: value})  # pyright: ignore[reportArgumentType]
