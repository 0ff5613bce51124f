"""What every algorithm can do, and what it may say of itself."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import PRNGKeyArray

from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.types import Critic, Metrics, Policy, Transition

S = TypeVar("S")


@runtime_checkable
class Algorithm(Protocol[S]):
    """A frozen dataclass whose fields are hyperparameters and whose methods are pure."""

    @property
    def gamma(self) -> float: ...

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> S:
        """A fresh learner; what is frozen at B^0 (a normalizer, say) is fitted here."""
        ...

    def update(self, state: S, batch: Transition, *, key: PRNGKeyArray) -> tuple[S, Metrics]:
        """One update of every network of the learner on one batch."""
        ...

    def policy(self, state: S) -> Policy:
        """The policy to deploy: it exploits."""
        ...

    def critic(self, state: S) -> Critic | None:
        """The current value estimates, for samplers to look at; None if the algorithm learns no values."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """An algorithm that learns from other rows than were logged."""

    def prepare(self, logs: Dataset) -> Dataset:
        """The rows to learn from, at most as many as were logged."""
        ...


@runtime_checkable
class Informed(Protocol):
    """An algorithm or a sampler that can make use of what a task knows."""

    def informed_by(self, task: object) -> Any:
        """The same with what the task knows; itself where that is nothing of use."""
        ...


def default_updates(algorithm: Algorithm[Any]) -> int:
    """L, updates per deployment, unless somebody says otherwise: the paper's 2000, or what the algorithm says."""
    return getattr(algorithm, "default_updates", 2000)


def least_offline_updates(algorithm: Algorithm[Any]) -> int:
    """Offline updates before which an algorithm has nothing to deploy."""
    return getattr(algorithm, "least_offline_updates", 0)


def hidden_widths(algorithm: Algorithm[Any]) -> tuple[int, ...]:
    """Widths of an algorithm's hidden layers, for what is to be as large; none where it does not say."""
    return getattr(algorithm, "hidden", ())
