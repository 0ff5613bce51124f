"""Small logs for algorithms with continuous actions: random, hostile, and of a chain whose values are known."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marline.data.experience import Experience
from marline.nn.mlp import MLP
from marline.types import Metrics, Spec, Transition

KEY = jax.random.key(0)
SPEC = Spec(2, 2)  # all logs here have the same shapes, so that a training loop is compiled once
NUM_ROWS = 24


def random_logs(seed: int = 0) -> Transition:
    """Every fourth row is terminal."""
    rng = np.random.default_rng(seed)
    return Transition(
        observation=jax.device_put(np.asarray(rng.normal(size=(NUM_ROWS, 2)), np.float32)),
        action=jax.device_put(np.asarray(rng.uniform(-1, 1, (NUM_ROWS, 2)), np.float32)),
        reward=jax.device_put(np.asarray(rng.normal(size=NUM_ROWS), np.float32)),
        discount=jax.device_put(np.asarray(np.arange(NUM_ROWS) % 4 > 0, np.float32)),
        next_observation=jax.device_put(np.asarray(rng.normal(size=(NUM_ROWS, 2)), np.float32)),
    )


def hostile_logs() -> dict[str, Transition]:
    plain = random_logs()
    constant = jax.device_put(np.full((NUM_ROWS, 2), 1e3, np.float32))
    return {
        "all terminal": plain._replace(discount=jax.device_put(np.zeros(NUM_ROWS, np.float32))),
        "one repeated row": jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)[[0] * NUM_ROWS]), plain),
        "rewards of a million": plain._replace(
            reward=jax.device_put(np.asarray(np.copysign(1e6, plain.reward), np.float32))
        ),
        "constant observations": plain._replace(observation=constant, next_observation=constant),
        "actions at the bounds": plain._replace(action=jax.device_put(np.asarray(np.sign(plain.action), np.float32))),
    }


def experience_of(logs: Transition, spec: Spec = SPEC) -> Experience:
    return Experience.create(logs, spec, num_deployments=1, rows_per_deployment=1)


def discrete_experience() -> Experience:
    masks, nothing, zeros = np.ones((4, 2), bool), np.zeros((4, 3), np.float32), np.zeros(4, np.float32)
    columns = nothing, zeros.astype(np.int32), zeros, zeros + 1, nothing, masks, masks
    logs = Transition(*(jax.device_put(column) for column in columns))
    return experience_of(logs, Spec(3, 2, discrete=True))


@functools.cache
def start(algorithm: Any) -> Any:
    """A fresh learner; the logs it starts from do not matter to algorithms without a normalizer."""
    return jax.jit(algorithm.init)(experience_of(random_logs()), key=KEY)


def train(algorithm: Any, logs: Transition, num_updates: int, state: Any = None) -> tuple[Any, Metrics]:
    """Updates on all logs at once, update i with key i; the learner and the metrics of the last update."""
    return _train(algorithm, start(algorithm) if state is None else state, logs, num_updates)


@functools.partial(jax.jit, static_argnums=0)
def _train(algorithm: Any, state: Any, logs: Transition, num_updates: jax.Array) -> tuple[Any, Metrics]:
    def step(number: jax.Array, carry: tuple[Any, Metrics]) -> tuple[Any, Metrics]:
        return algorithm.update(carry[0], logs, key=jax.random.fold_in(KEY, number))

    _, metrics = jax.eval_shape(step, jax.ShapeDtypeStruct((), jnp.int32), (state, None))
    metrics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metrics)
    return jax.lax.fori_loop(0, num_updates, step, (state, metrics))


def update_key() -> jax.Array:
    """The key of update 0."""
    return jax.random.fold_in(KEY, 0)


@functools.partial(jax.jit, static_argnums=0)
def look(algorithm: Any, state: Any, batch: Transition) -> tuple[jax.Array, jax.Array, jax.Array]:
    """pi(s), Q(s, a) and V(s) of every row, as a deployment and a sampler see them; row i has key i."""
    policy, critic = algorithm.policy(state), algorithm.critic(state)
    keys = jax.random.split(KEY, batch.reward.shape[0])
    chosen = jax.vmap(lambda s, key: policy(s, key=key))(batch.observation, keys)
    values = jax.vmap(lambda s, key: critic.v(s, key=key))(batch.observation, keys)
    return chosen, jax.vmap(critic.q)(batch.observation, batch.action), values


def all_finite(tree: object) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


def forward(mlp: MLP, x: np.ndarray) -> np.ndarray:
    """Output [n, out] of a ReLU perceptron in float64."""
    x = np.asarray(x, np.float64)
    for number, layer in enumerate(mlp.layers):
        x = x @ np.asarray(layer.weight, np.float64) + np.asarray(layer.bias, np.float64)
        x = np.maximum(x, 0.0) if number < len(mlp.layers) - 1 else x
    return x


def twins(critic: Any, observation: Any, action: Any) -> np.ndarray:
    """Q1 and Q2 of every row, [2, n]."""
    x = np.hstack([observation, action])
    return np.stack([forward(network.mlp, x)[:, 0] for network in (critic.first, critic.second)])


# ------------------------------------------------------------------------------------ the chain

CHAIN_GAMMA = 0.8
CHAIN_ACTIONS = np.array([-1.0, -0.9, -0.8, -0.7, -0.6, -0.5, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
# rewards by state and by whether the action is positive; a positive one leads to state 1, a negative one to 0
CHAIN_REWARDS = np.array([[0.0, -0.5], [0.5, 1.0]])


def chain_logs() -> Transition:
    """Every action in both states once. Going from 0 to 1 costs now and pays later; a second action does nothing."""
    state = np.repeat([0, 1], len(CHAIN_ACTIONS))
    action = np.stack([np.tile(CHAIN_ACTIONS, 2), np.tile([-0.6, 0.0, 0.6], NUM_ROWS // 3)], axis=1)
    right = (action[:, 0] > 0).astype(int)
    return Transition(
        observation=jax.device_put(np.asarray(np.eye(2)[state], np.float32)),
        action=jax.device_put(np.asarray(action, np.float32)),
        reward=jax.device_put(np.asarray(CHAIN_REWARDS[state, right], np.float32)),
        discount=jax.device_put(np.ones(len(state), np.float32)),
        next_observation=jax.device_put(np.asarray(np.eye(2)[right], np.float32)),
    )


def chain_values(backup: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Q [state, right] at the fixed point of Q = r + gamma V(s'), where V = backup(Q) by state."""
    q_values = np.zeros((2, 2))
    for _ in range(500):
        q_values = CHAIN_REWARDS + CHAIN_GAMMA * backup(q_values)[None, :]
    return q_values


def optimal_chain_values() -> np.ndarray:
    """[[2.8, 3.5], [3.3, 5]]: always to the right."""
    return chain_values(lambda q_values: q_values.max(axis=1))


def by_direction(per_row: Any) -> np.ndarray:
    """Means of one number per row of `chain_logs` over the actions of one sign, [state, right]."""
    return np.asarray(per_row).reshape(2, 2, -1).mean(axis=2)
