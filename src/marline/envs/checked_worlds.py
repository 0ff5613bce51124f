"""What worlds written in JAX return is checked: shapes and types before anything is played, values when it was."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from marline.data.check import LARGEST
from marline.envs.checked import require_task
from marline.envs.task import Drifting, World
from marline.errors import ConfigError, require
from marline.inputs.users_code import users_code
from marline.types import AgentID, Transition


@functools.cache
def require_world(task: World, name: str) -> None:
    """Trace a step of a world; `ConfigError` if it fails, or returns anything but what the protocol says."""
    require_task(task, name)
    jax.eval_shape(functools.partial(_step, task, name), jax.random.key(0))


def _step(task: World, name: str, key: Array) -> None:
    with users_code(f"task {name}: reset()"):
        state = task.reset(key=key)
    if isinstance(task, Drifting):
        with users_code(f"task {name}: enter()"):
            state = task.enter(state, jnp.int32(0))
    _require_shown(task, name, state)
    actions = {
        agent: jnp.int32(0) if spec.discrete else jnp.zeros(spec.action_size) for agent, spec in task.specs.items()
    }
    with users_code(f"task {name}: step()"):
        reply = task.step(state, actions, key=key)
    if not isinstance(reply, tuple) or len(reply) != 3:
        raise ConfigError(f"task {name}: step() returned {type(reply).__name__}; return next state, reward, terminated")
    after, reward, terminated = reply
    _require_array(reward, (), jnp.float32, f"task {name}: the reward")
    _require_array(terminated, (), jnp.bool_, f"task {name}: terminated")
    same = jax.tree.structure(after) == jax.tree.structure(state)
    sorts = [
        [(jnp.shape(leaf), leaf.dtype) for leaf in jax.tree.leaves(tree)]
        for tree in (jax.tree.map(jnp.asarray, state), jax.tree.map(jnp.asarray, after))
    ]
    require(
        same and sorts[0] == sorts[1],
        f"task {name}: step() returns another sort of state than reset(); keep structure, shapes and types the same",
    )
    _require_shown(task, name, after)


def _require_shown(task: World, name: str, state: Any) -> None:
    """What a state shows."""
    with users_code(f"task {name}: observe()"):
        observations = task.observe(state)
    _require_known(task, observations, f"task {name}: observe()")
    for agent, spec in task.specs.items():
        where = f"task {name}: agent {agent!r}: its observation"
        require(agent in observations, f"{where} is missing in what observe() returns; return one of every agent")
        _require_array(observations[agent], (spec.observation_size,), jnp.float32, where)
    with users_code(f"task {name}: action_masks()"):
        masks = task.action_masks(state)
    _require_known(task, masks, f"task {name}: action_masks()")
    for agent, mask in masks.items():
        where, spec = f"task {name}: agent {agent!r}: its action mask", task.specs[agent]
        require(spec.discrete, f"{where} came for continuous actions, which cannot be masked; leave it out")
        _require_array(mask, (spec.action_size,), jnp.bool_, where)
    with users_code(f"task {name}: drawing()"):
        drawing = dict(task.drawing(state))
    for what, points in drawing.items():
        shape = getattr(points, "shape", ())
        require(len(shape) == 2 and shape[1] == 2, f"task {name}: drawing() has {what} of shape {shape}; give [n, 2]")


def _require_known(task: World, values: Any, what: str) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what} returned {type(values).__name__}; return a dict by agent")
    strange = [agent for agent in values if agent not in task.specs]
    if strange:
        raise ConfigError(f"{what} has agent {strange[0]!r}, who is not of this task: {', '.join(task.agents)}")


def _require_array(value: Any, shape: tuple[int, ...], dtype: Any, what: str) -> None:
    wanted = f"{np.dtype(dtype).name}[{', '.join(map(str, shape))}]"
    if not isinstance(value, jax.Array | np.ndarray | np.generic | bool | int | float):
        raise ConfigError(f"{what} is {type(value).__name__} {value!r:.60}; return {wanted}")
    found, sort = jnp.shape(value), jnp.result_type(value)
    if found != shape or sort != dtype:
        raise ConfigError(f"{what} is {sort.name}[{', '.join(map(str, found))}]; return {wanted}")


def require_sound(
    transitions: Mapping[AgentID, Transition], over: Bool[np.ndarray, "episodes steps"], name: str, first_episode: int
) -> None:
    """Raise `ConfigError` unless what a world showed in the rows that are not over can be learned from, as of files.

    Masks of nothing are filled where an episode terminated, for nothing is chosen there.
    """
    for agent, rows in transitions.items():
        for what, values, later in (
            ("observation", rows.observation, 0),
            ("reward", rows.reward, 1),
            ("observation", rows.next_observation, 1),
        ):
            place = _first_unsound(np.asarray(values), over)
            if place is not None:
                episode, step, value = place
                moment = f"step {step + later}" if step + later else "reset"
                raise ConfigError(
                    f"task {name}, episode {first_episode + episode}, {moment}: agent {agent!r}: its {what} holds "
                    f"{value:.6g}; return finite ones, and none beyond {LARGEST:.0e}, which cannot be learned from in "
                    "float32"
                )
        for mask, later in ((rows.action_mask, 0), (rows.next_action_mask, 1)):
            if mask is None:
                continue
            empty = ~np.asarray(mask).any(axis=-1) & ~over
            if later:
                mask[empty & (rows.discount == 0.0)] = True  # pyright: ignore[reportIndexIssue]
                empty &= rows.discount != 0.0
            if empty.any():
                episode, step = np.argwhere(empty)[0]
                moment = f"step {step + later}" if step + later else "reset"
                raise ConfigError(
                    f"task {name}, episode {first_episode + episode}, {moment}: agent {agent!r}: its action mask "
                    "allows nothing; allow at least one choice, such as doing nothing"
                )


def _first_unsound(
    values: Float[np.ndarray, "episodes steps *rest"], over: Bool[np.ndarray, "episodes steps"]
) -> tuple[int, int, float] | None:
    flat = values.reshape(-1)
    with np.errstate(over="ignore"):
        if flat.dot(flat) <= LARGEST**2:  # no copy, for there may be no memory for one
            return None
    for episode in range(len(values)):  # then at most one of an episode
        wrong = ~(np.abs(values[episode].reshape(len(values[episode]), -1)) <= LARGEST)
        wrong[over[episode]] = False
        if wrong.any():
            step, place = np.argwhere(wrong)[0]
            return episode, int(step), float(values[episode].reshape(len(wrong), -1)[step, place])
    return None
