"""Policies that are not learned, and learned ones for NumPy callers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.channels import Channels
from marline.errors import DataError
from marline.types import ActionMask, AgentID, Policy, Spec


class RandomPolicy(eqx.Module):
    """Uniform over the actions allowed, whatever it sees."""

    spec: Spec = eqx.field(static=True)

    def __call__(
        self,
        observation: Float[Array, " obs"],
        *,
        key: PRNGKeyArray,
        action_mask: ActionMask | None = None,
    ) -> Array:
        if self.spec.discrete:
            allowed = jnp.ones(self.spec.action_size, bool) if action_mask is None else action_mask
            return jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf))
        return jax.random.uniform(key, (self.spec.action_size,), minval=-1.0, maxval=1.0)


class Exploring(eqx.Module):
    """Acts at random with probability `epsilon`, among the actions allowed, and as `policy` does otherwise."""

    policy: Policy
    epsilon: Float[Array, ""]
    spec: Spec = eqx.field(static=True)

    def __call__(
        self,
        observation: Float[Array, " obs"],
        *,
        key: PRNGKeyArray,
        action_mask: ActionMask | None = None,
    ) -> Array:
        coin_key, random_key = jax.random.split(jax.random.fold_in(key, 1))  # its policy is given the key as it is
        chosen = self.policy(observation, key=key, action_mask=action_mask)
        strange = RandomPolicy(self.spec)(observation, key=random_key, action_mask=action_mask)
        return jnp.where(jax.random.uniform(coin_key) < self.epsilon, strange, chosen)


@runtime_checkable
class Varying(Protocol):
    """A policy that is another in every episode."""

    def in_episode(self, *, key: PRNGKeyArray) -> Policy:
        """What acts in an episode, by a key that all agents of the team have in common."""
        ...


def in_episode(policy: Policy, *, key: PRNGKeyArray) -> Policy:
    """What acts in the episode of a key: most policies themselves, others as it turns out there."""
    return policy.in_episode(key=key) if isinstance(policy, Varying) else policy


class OfMixedSkill(eqx.Module):
    """Acts at random with a probability that is drawn for each episode, uniformly, and as `policy` does otherwise.

    Every agent of a team has a probability of its own in an episode, so that good episodes are those in which the
    others were good, too.
    """

    policy: Policy
    agent: AgentID = eqx.field(static=True)
    spec: Spec = eqx.field(static=True)

    def in_episode(self, *, key: PRNGKeyArray) -> Exploring:
        epsilon = jax.random.uniform(jax.random.fold_in(key, zlib.crc32(self.agent.encode())))
        return Exploring(self.policy, epsilon, self.spec)

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Array:
        """As in an episode of one step."""
        return self.in_episode(key=key)(observation, key=key, action_mask=action_mask)


class OneOfTeams(eqx.Module):
    """Acts as a member of a team that is drawn for each episode, all equally likely; the same for all agents."""

    members: tuple[Policy, ...]

    def in_episode(self, *, key: PRNGKeyArray) -> _Member:
        return _Member(self.members, jax.random.randint(key, (), 0, len(self.members)))

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Array:
        """As in an episode of one step."""
        return self.in_episode(key=key)(observation, key=key, action_mask=action_mask)


class _Member(eqx.Module):
    members: tuple[Policy, ...]
    number: Int[Array, ""]

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Array:
        actions = [member(observation, key=key, action_mask=action_mask) for member in self.members]
        return jnp.stack(actions)[self.number]


def of_mixed_skill(policies: Mapping[AgentID, Policy], specs: Mapping[AgentID, Spec]) -> dict[AgentID, OfMixedSkill]:
    """A team of which every agent has in every episode a skill of its own."""
    return {agent: OfMixedSkill(policy, agent, specs[agent]) for agent, policy in policies.items()}


def one_of_teams(teams: Mapping[str, Mapping[AgentID, Policy]]) -> dict[AgentID, OneOfTeams]:
    """In every episode one of several teams, whole."""
    first = next(iter(teams.values()))
    return {agent: OneOfTeams(tuple(team[agent] for team in teams.values())) for agent in first}


class NumpyPolicy:
    """A policy for code that knows no JAX: arrays in, arrays out, its random stream inside.

    Takes one observation `[obs]` or a batch `[n, obs]` and, for discrete actions of which some are forbidden, a boolean
    mask `[num_actions]` or `[n, num_actions]` of those allowed. Answers

    - continuous actions in float32, `[act]` or `[n, act]`, on the field's scale: within the range of the logs, or in
      [-1, 1] where `channels` have none;
    - choices in int64: a NumPy integer, as Gymnasium's `Discrete` samples, or `[n]`. As where arrays are indexed, the
      annotation does not tell one from the other.

    Raises:
        DataError: an observation or a mask is of another shape, not finite, or allows nothing.
    """

    def __init__(
        self, policy: Policy, *, seed: int = 0, spec: Spec | None = None, channels: Channels | None = None
    ) -> None:
        self._policy, self._spec, self._channels = policy, spec, channels or Channels()
        self._key = jax.random.key(seed)

    def __call__(self, observation: np.ndarray, action_mask: np.ndarray | None = None) -> Any:
        try:
            batch = np.atleast_2d(np.asarray(observation, np.float32))
        except (TypeError, ValueError) as error:
            raise DataError(f"the observation is no array of numbers ({error}); give one [obs] or [n, obs]") from None
        if self._spec is not None and (batch.ndim != 2 or batch.shape[1] != self._spec.observation_size):
            shape, size = list(np.shape(observation)), self._spec.observation_size
            raise DataError(f"the observation has shape {shape}, but must be [{size}] or [n, {size}]")
        if not np.isfinite(batch).all():
            raise DataError("the observation holds NaN or infinity; let the agent act in some safe way instead")
        masks = None if action_mask is None else self._masks(action_mask, len(batch))
        self._key, key = jax.random.split(self._key)
        actions = np.asarray(_act(self._policy, batch, masks, key))
        actions = actions.astype(np.int64) if actions.dtype.kind in "iu" else self._channels.answers(actions)
        return actions if np.ndim(observation) > 1 else actions[0]

    def _masks(self, action_mask: np.ndarray, rows: int) -> np.ndarray:
        """[n, num_actions] what is allowed."""
        masks = np.atleast_2d(np.asarray(action_mask, bool))
        size = self._spec.action_size if self._spec is not None else masks.shape[-1]
        if self._spec is not None and not self._spec.discrete:
            raise DataError("continuous actions have no mask; leave it out")
        if masks.shape != (rows, size):
            shape, wanted = list(np.shape(action_mask)), f"[{size}]" if rows == 1 else f"[{rows}, {size}]"
            raise DataError(f"the action mask has shape {shape}, but must be {wanted}")
        if not masks.any(axis=1).all():
            raise DataError("the action mask allows nothing; let the agent act in some safe way instead")
        return masks


@jax.jit
def _act(policy: Any, observations: Array, masks: Array | None, key: PRNGKeyArray) -> Array:
    def act(observation: Array, action_mask: Array | None, key: PRNGKeyArray) -> Array:
        return policy(observation, key=key, action_mask=action_mask)

    return jax.vmap(act)(observations, masks, jax.random.split(key, observations.shape[0]))
