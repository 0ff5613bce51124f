"""Offline reinforcement learning, one algorithm per file."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import PRNGKeyArray

from marline.algorithms.awac import AWAC
from marline.algorithms.bcq import BCQ
from marline.algorithms.bremen import BREMEN
from marline.algorithms.cql import CQL
from marline.algorithms.cql_continuous import ContinuousCQL
from marline.algorithms.iql import IQL
from marline.algorithms.mabcq import MABCQ
from marline.algorithms.td3_bc import TD3BC
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


ALGORITHMS: dict[str, type[Algorithm[Any]]] = {
    "td3-bc": TD3BC,
    "bcq": BCQ,
    "awac": AWAC,
    "cql": CQL,
    "cql-continuous": ContinuousCQL,
    "iql": IQL,
    "bremen": BREMEN,
    "mabcq": MABCQ,
}

__all__ = [
    "ALGORITHMS",
    "AWAC",
    "BCQ",
    "BREMEN",
    "CQL",
    "IQL",
    "MABCQ",
    "TD3BC",
    "Algorithm",
    "ContinuousCQL",
    "Prepares",
]
