"""Rows that say what they are worth, so that every distance between them is known by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from marline.data.experience import Experience
from marline.samplers import EmbeddingDistance
from marline.samplers.distances import EmbeddingState
from marline.types import Metrics, Spec, Transition

SPEC = Spec(2, 1)


class Embedded(NamedTuple):
    """The distance, its state after training, and each deployment with the state that took it in."""

    distance: EmbeddingDistance
    trained: EmbeddingState
    experiences: tuple[Experience, ...]
    states: tuple[EmbeddingState, ...]


@functools.partial(jax.jit, static_argnums=0)
def taken_in(
    distance: EmbeddingDistance, state: EmbeddingState, experience: Experience
) -> tuple[EmbeddingState, Metrics]:
    return distance.begin_deployment(state, experience)


class ReadingCritic(NamedTuple):
    """Q(s, a) is the first number of an observation, V(s) the second."""

    gamma = 0.99

    def q(self, observation: Array, action: Array) -> Array:
        return observation[0]

    def v(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return observation[1]


CRITIC = ReadingCritic()


def rows(q: ArrayLike, next_v: ArrayLike, *, action: ArrayLike = 0.0, terminal: ArrayLike = 0.0) -> Transition:
    """One row per number of `q`; everything not given is 0."""
    q_values = np.asarray(q, np.float32)  # by NumPy, which compiles nothing
    zero = np.zeros_like(q_values)
    of_actions = np.broadcast_to(np.asarray(action, np.float32), q_values.shape)
    of_ends = np.broadcast_to(np.asarray(terminal, np.float32), q_values.shape)
    return Transition(
        observation=jnp.asarray(np.stack([q_values, zero], axis=1)),
        action=jnp.asarray(of_actions[:, None]),
        reward=jnp.asarray(zero),
        discount=jnp.asarray(1.0 - of_ends),
        next_observation=jnp.asarray(np.stack([zero, np.asarray(next_v, np.float32)], axis=1)),
    )


def random_rows(num: int, seed: int, *, mean: float = 3.0) -> Transition:
    rng = np.random.default_rng(seed)
    return rows(rng.normal(mean, 1, num), rng.normal(mean, 1, num), action=rng.uniform(-1, 1, num))


def joined(offline: Transition, *deployments: Transition, spec: Spec = SPEC, spare: int = 0) -> Experience:
    """Offline rows and the deployments that followed, with room for `spare` rows more per deployment."""
    most = max((len(logs.reward) for logs in deployments), default=1)
    experience = Experience.create(
        offline, spec, num_deployments=max(1, len(deployments)), rows_per_deployment=most + spare
    )
    for number, logs in enumerate(deployments, start=1):
        experience = experience.merge(logs, number)
    return experience


def many(function: Callable[[Array], Array], num: int, seed: int = 0) -> np.ndarray:
    """What `function` gives for each of `num` keys."""
    return np.asarray(jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), num)))
