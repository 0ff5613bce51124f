"""The words every other module speaks: transitions, specs, and what a policy and a critic can do."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

AgentID = str
Metrics = Mapping[str, Array]


class MarlineError(Exception):
    """Something the user can mend; the message names the thing, the rule and the fix."""


class ConfigError(MarlineError):
    """An option, name or combination of options that cannot be run."""


class DataError(MarlineError):
    """Logs that break a rule; the message names agent, file and row."""


class CorruptionError(MarlineError):
    """A file that is not what was written: truncated, altered or missing."""


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError` unless the condition holds; a comparison with NaN does not."""
    if not condition:
        raise ConfigError(message)


def require_name(name: str, known: Iterable[str], kind: str) -> None:
    """Raise `ConfigError` with the nearest known name unless `name` is one of them."""
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown {kind} {name!r}; {hint}known: {', '.join(known)}")


class Transition(NamedTuple):
    """One agent's view of one or many steps; every leaf carries the same leading batch axes.

    Actions lie in [-1, 1] when continuous and are integers when discrete. `discount` is
    1 - terminated, so it stays 1 where a time limit cut the episode.
    """

    observation: Float[Array, "*batch obs"]
    action: Float[Array, "*batch act"] | Int[Array, "*batch"]
    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    next_observation: Float[Array, "*batch obs"]
    action_mask: Bool[Array, "*batch num_actions"] | None = None
    next_action_mask: Bool[Array, "*batch num_actions"] | None = None


@dataclasses.dataclass(frozen=True)
class Spec:
    """Sizes of one agent's observation and action.

    Attributes:
        observation_size: length of the flat observation vector.
        action_size: length of the action vector, or the number of actions when `discrete`.
        discrete: whether actions are integers in [0, action_size).
    """

    observation_size: int
    action_size: int
    discrete: bool = False


@runtime_checkable
class Policy(Protocol):
    """Maps one observation to one action; stochastic policies consume the key."""

    def __call__(self, observation: Float[Array, " obs"], *, key: PRNGKeyArray) -> Array: ...


@runtime_checkable
class Critic(Protocol):
    """The value estimates that a sampler may look at; both take one example."""

    def q(self, observation: Float[Array, " obs"], action: Array) -> Float[Array, ""]: ...

    def v(self, observation: Float[Array, " obs"]) -> Float[Array, ""]: ...
