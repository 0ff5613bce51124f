"""One agent: its learner, its sampler's memory and its experience. No agent knows another."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, UInt32

from marline.algorithms import Algorithm
from marline.data.experience import Experience
from marline.ops.row_draws import count_distinct, rows_with_replacement
from marline.ops.value_targets import next_values
from marline.samplers import Sampler, batch_of
from marline.types import AgentID, Critic, Metrics, Transition

L = TypeVar("L")
R = TypeVar("R")

TD_ERROR_EVERY = 100  # updates between two looks at the TD errors of drawn and of uniform rows
LOOK = zlib.crc32(b"look")  # sets the stream of such a look apart from that of the draw before it


class AgentState(NamedTuple):
    """All that one agent has: nothing here is shared with another."""

    learner: Any  # of the algorithm
    sampler: Any  # the sampler's memory
    experience: Experience

    def with_memory(self, memory: Any) -> AgentState:
        """The same with another memory of the sampler."""
        return self._replace(sampler=memory)


class Tuned(NamedTuple):
    """What came out of some updates of one agent.

    Attributes:
        learner: of the algorithm.
        sampler: the sampler's memory.
        metrics: one value per update.
        rows: [updates, batch] which rows each update learned from, as logged or as the sampler tells them.
        is_finite: whether every number of the learner is.
    """

    learner: Any
    sampler: Any
    metrics: Metrics
    rows: Int[Array, "updates batch"]
    is_finite: Bool[Array, ""]


def stream(seed: int, agent: AgentID, purpose: str) -> PRNGKeyArray:
    """The random stream of one agent for one purpose.

    Streams of different purposes are independent, so that changing the sampler changes no
    other stream and two samplers are compared on equal noise.
    """
    key = jax.random.key(seed)
    for word in (agent, purpose):
        key = jax.random.fold_in(key, zlib.crc32(word.encode()))
    return key


def stream_of(words: UInt32[Array, " 3"]) -> PRNGKeyArray:
    """`stream`, for what `stream_words` made of a seed, an agent and a purpose."""
    key = jax.random.key(words[0])
    for word in words[1:]:
        key = jax.random.fold_in(key, word)
    return key


def stream_words(seed: int, agent: AgentID, purpose: str) -> UInt32[np.ndarray, " 3"]:
    return np.array([seed, zlib.crc32(agent.encode()), zlib.crc32(purpose.encode())], np.uint32)


def tune(
    state: AgentState,
    sample_key: PRNGKeyArray,
    update_key: PRNGKeyArray,
    first_update: Int[Array, ""],
    *,
    algorithm: Algorithm[L],
    sampler: Sampler[R],
    num_updates: int,
) -> Tuned:
    """`num_updates` updates in one compiled loop; sampling happens inside it.

    Args:
        state: the agent.
        sample_key: the sampler's stream.
        update_key: the learner's stream.
        first_update: number of the first update. Update t uses keys that depend on the streams
            and t alone, so a loop cut in two equals the whole.
        algorithm: what learns.
        sampler: what chooses the rows.
        num_updates: length of the loop.
    """
    experience = state.experience

    def step(carry: tuple[L, R], now: tuple[Array, Key[Array, " 2"]]) -> tuple[tuple[L, R], tuple[Metrics, Array]]:
        learner, memory = carry
        number, (row_key, learner_key) = now
        critic = algorithm.critic(learner)
        rows, memory, sampling = sampler.sample(memory, experience, critic, key=row_key)
        batch = batch_of(sampler, memory, rows, experience, key=row_key)
        unknown = jnp.float32(jnp.nan), jnp.float32(jnp.nan)
        td_errors = unknown
        if critic is not None:
            td_errors = jax.lax.cond(
                number % TD_ERROR_EVERY == 0,
                lambda: compare_td_errors(critic, batch, experience, key=jax.random.fold_in(row_key, LOOK)),
                lambda: unknown,
            )
        learner, learning = algorithm.update(learner, batch, key=learner_key)
        errors = {"td_error_drawn": td_errors[0], "td_error_uniform": td_errors[1]}
        return (learner, memory), ({**sampling, **errors, **learning}, rows)

    numbers = first_update + jnp.arange(num_updates)
    # in one go: within the loop each of them would be a small program of its own
    keys = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (None, 0))(jnp.stack([sample_key, update_key]), numbers)
    (learner, memory), (metrics, rows) = jax.lax.scan(step, (state.learner, state.sampler), (numbers, keys))
    # all at once, for the same reason
    metrics = {**metrics, **jax.vmap(describe_rows, (0, None))(rows, experience)}
    floats = [leaf for leaf in jax.tree.leaves(learner) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    is_finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in floats], bool))
    return Tuned(learner, memory, metrics, rows, is_finite)


def describe_rows(rows: Int[Array, " batch"], experience: Experience) -> Metrics:
    """Where drawn rows come from: shares by source, and how many are distinct."""
    deployment = experience.deployment(rows)
    current = (rows >= experience.online_start) & (deployment > 0)
    return {
        "share_offline": jnp.mean(deployment == 0),
        "share_earlier": jnp.mean((deployment > 0) & ~current),
        "share_current": jnp.mean(current),
        "distinct_rows": count_distinct(rows).astype(jnp.float32),
    }


def compare_td_errors(
    critic: Critic, drawn: Transition, experience: Experience, *, key: PRNGKeyArray
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean of r + gamma V(s') - Q(s, a), signed, over drawn rows and over as many uniform rows of B^k."""
    row_key, drawn_key, uniform_key = jax.random.split(key, 3)
    rows = rows_with_replacement(0, experience.size, drawn.reward.shape[0], key=row_key)

    def mean_error(batch: Transition, key: PRNGKeyArray) -> Float[Array, ""]:
        target = batch.reward + critic.gamma * next_values(critic, batch, key=key)
        return jnp.mean(target - jax.vmap(critic.q)(batch.observation, batch.action))

    return mean_error(drawn, drawn_key), mean_error(experience[rows], uniform_key)


def begin_deployment(
    state: AgentState, key: PRNGKeyArray, *, algorithm: Algorithm[L], sampler: Sampler[R]
) -> tuple[R, Metrics]:
    """Let the sampler take in the rows just merged, before the first update on them."""
    return sampler.begin_deployment(state.sampler, state.experience, algorithm.critic(state.learner), key=key)


def summarise(metrics: Mapping[str, ArrayLike]) -> dict[str, float]:
    """Per-update metrics of one tuning as their means; TD errors over the updates that measured them."""
    summary = {}
    for name, per_update in metrics.items():
        values = np.asarray(per_update, np.float64)
        measured = values[~np.isnan(values)] if name.startswith("td_error") else values
        summary[name] = float(measured.mean()) if len(measured) else float("nan")
    return summary
