"""Policies that are written down rather than learned: the members of past teams."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.types import ActionMask

NOISE = 0.3  # how often members of past teams act at random, so that their logs hold more than one action


class Choosing(eqx.Module):
    """Draws a choice by probabilities that depend on what it sees, among the choices allowed.

    Attributes:
        rule: from an observation `[obs]` to the choice `[]` that it makes unless it makes a random one, or to the
            probability of each choice `[actions]`.
        num_actions: choices there are.
        noise: how often it chooses at random instead.
    """

    rule: Callable[[Float[Array, " obs"]], Array] = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)
    noise: float = eqx.field(static=True, default=0.0)

    def probabilities(self, observation: Float[Array, " obs"]) -> Float[Array, " actions"]:
        """Of each choice."""
        says = self.rule(observation)
        chosen = says if jnp.ndim(says) else (jnp.arange(self.num_actions) == says).astype(jnp.float32)
        return (1.0 - self.noise) * chosen + self.noise / self.num_actions

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Array:
        chances = jnp.log(self.probabilities(observation))
        return jax.random.categorical(
            key, chances if action_mask is None else jnp.where(action_mask, chances, -jnp.inf)
        )


class Moving(eqx.Module):
    """Acts by a rule on continuous actions, and at random now and then.

    Attributes:
        rule: from an observation `[obs]` to an action `[act]`, which is cut to [-1, 1].
        action_size: numbers of an action.
        noise: how often it draws the action uniformly from [-1, 1] instead.
    """

    rule: Callable[[Float[Array, " obs"]], Float[Array, " act"]] = eqx.field(static=True)
    action_size: int = eqx.field(static=True)
    noise: float = eqx.field(static=True, default=0.0)

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Float[Array, " act"]:
        coin_key, random_key = jax.random.split(key)
        strange = jax.random.uniform(random_key, (self.action_size,), minval=-1.0, maxval=1.0)
        chosen = jnp.clip(self.rule(observation), -1.0, 1.0)
        return jnp.where(jax.random.uniform(coin_key) < self.noise, strange, chosen)
