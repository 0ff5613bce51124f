"""The words every other module speaks: transitions, specs, and what a policy and a critic can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.inputs.arguments import checked

AgentID = str
RewardScope = Literal["per-agent", "shared"]  # whose a reward is: each agent's own, or one of all agents
REWARD_SCOPES: tuple[RewardScope, ...] = get_args(RewardScope)
Metrics = Mapping[str, Array]
ActionMask = Bool[Array, " num_actions"]  # the actions allowed


class Transition(NamedTuple):
    """One agent's view of one or many steps; every leaf carries the same leading batch axes.

    A step is what the agent saw before it acted, the action, the reward that came of it, and what it saw then. Actions
    lie in [-1, 1] when continuous and are integers when discrete. `discount` is 1 - terminated, so it stays 1 where a
    time limit cut the episode.

    A step that ended its episode for good, and whose next observation is its observation, says that what
    came after was not logged: nothing may be learned from such a next observation (see `next_is_known`).
    """

    observation: Float[Array, "*batch obs"]
    action: Float[Array, "*batch act"] | Int[Array, "*batch"]
    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    next_observation: Float[Array, "*batch obs"]
    action_mask: Bool[Array, "*batch num_actions"] | None = None
    next_action_mask: Bool[Array, "*batch num_actions"] | None = None

    @property
    def next_is_known(self) -> Bool[Array, "*batch"]:
        """Whether the next observation was logged, and may be compared and learned from."""
        return (self.discount > 0) | (self.next_observation != self.observation).any(-1)


@dataclasses.dataclass(frozen=True)
@checked
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
    """Maps one observation to one action; stochastic policies consume the key.

    Policies over discrete actions choose among those that `action_mask` allows, all without one.
    """

    def __call__(
        self,
        observation: Float[Array, " obs"],
        *,
        key: PRNGKeyArray,
        action_mask: ActionMask | None = None,
    ) -> Array: ...


@runtime_checkable
class KnownReward(Protocol):
    """A hashable object, a task for example, that knows the reward of a step from what one agent sees."""

    def reward_of(
        self, observation: Float[Array, " obs"], action: Array, next_observation: Float[Array, " obs"]
    ) -> Float[Array, ""]:
        """r(s, a, s') of one step."""
        ...


@runtime_checkable
class Critic(Protocol):
    """The value estimates that a sampler may look at; both take one example."""

    @property
    def gamma(self) -> float:
        """The discount of the values: Q(s, a) stands for r + gamma V(s')."""
        ...

    def q(self, observation: Float[Array, " obs"], action: Array) -> Float[Array, ""]:
        """Q(s, a)."""
        ...

    def v(
        self,
        observation: Float[Array, " obs"],
        *,
        key: PRNGKeyArray,
        action_mask: ActionMask | None = None,
    ) -> Float[Array, ""]:
        """V(s), the value of acting from s on; where it is a mean over sampled actions, they consume the key."""
        ...
