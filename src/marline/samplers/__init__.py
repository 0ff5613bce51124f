"""Which logged rows each update sees."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Array, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.samplers.balanced import BalancedReplay
from marline.samplers.classifier_ratio import ClassifierRatio
from marline.samplers.distances import EmbeddingDistance, TwoStageDistance, ValueDistance
from marline.samplers.online_matched import OnlineMatched
from marline.samplers.otc import OTC
from marline.samplers.uniform import Uniform
from marline.types import Critic, Metrics

S = TypeVar("S")


@runtime_checkable
class Sampler(Protocol[S]):
    """A frozen dataclass whose fields are options and whose methods are pure."""

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> S:
        """The sampler's memory; what is frozen at B^0 is fitted here."""
        ...

    def begin_deployment(
        self, state: S, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[S, Metrics]:
        """Called after each merge, before the first update on the merged rows."""
        ...

    def sample(
        self, state: S, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], S, Metrics]:
        """Numbers of the rows of one batch."""
        ...


SAMPLERS: dict[str, Sampler[Any]] = {
    "uniform": Uniform("merged"),
    "offline-only": Uniform("offline"),
    "online-only": Uniform("online"),
    "otc-value": OTC("value"),
    "otc-value-literal": OTC("value-literal"),
    "otc-embedding": OTC("embedding"),
    "otc-two-stage": OTC("two-stage"),
    "otc-value-refresh": OTC("value", match="refresh", num_estimate=2000),
    "otc-embedding-refresh": OTC("embedding", match="refresh", num_estimate=2000),
    "otc-two-stage-refresh": OTC("two-stage", match="refresh", num_estimate=2000),
    "online-matched": OnlineMatched(),
    "balanced": BalancedReplay(),
    "classifier-ratio": ClassifierRatio(),
}

__all__ = [
    "OTC",
    "SAMPLERS",
    "BalancedReplay",
    "ClassifierRatio",
    "EmbeddingDistance",
    "OnlineMatched",
    "Sampler",
    "TwoStageDistance",
    "Uniform",
    "ValueDistance",
]
