"""Rows of which the law is known by hand: where an action pushes, by how much, and from where."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from marline.data.experience import Experience
from marline.types import Spec, Transition

SPEC = Spec(1, 1)
NUM_OFFLINE, NUM_ONLINE = 3000, 800


class World(NamedTuple):
    """s ~ N(place, .5^2), a ~ U(-1, 1), s' - s = sin(2 s) + push a + .5 e, and the reward is noise."""

    push: float
    place: float = 0.0

    @functools.partial(jax.jit, static_argnums=1)
    def rows(self, num: int, key: jax.Array) -> Transition:
        keys = jax.random.split(key, 4)
        seen = self.place + 0.5 * jax.random.normal(keys[0], (num, 1))
        action = jax.random.uniform(keys[1], (num, 1), minval=-1.0, maxval=1.0)
        after = seen + jnp.sin(2 * seen) + self.push * action + 0.5 * jax.random.normal(keys[2], (num, 1))
        return Transition(seen, action, jax.random.normal(keys[3], (num,)), jnp.ones(num), after)


def experience_of(offline: Transition, online: Transition, spec: Spec = SPEC) -> Experience:
    num = len(online.reward)
    return Experience.create(offline, spec, num_deployments=2, rows_per_deployment=num).merge(online, 1)


def case(logs: World, today: World, seed: int) -> Experience:
    keys = jax.random.split(jax.random.key(seed))
    return experience_of(logs.rows(NUM_OFFLINE, keys[0]), today.rows(NUM_ONLINE, keys[1]))
