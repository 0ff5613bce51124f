"""What every sampler can do, and which of them a shuffled control can be made of."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Array, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.types import Critic, Metrics

S = TypeVar("S")


@runtime_checkable
class Sampler(Protocol[S]):
    """A frozen dataclass whose fields are options and whose methods are pure.

    One that makes all rows of a source equally likely says so by `prefers_rows = False`, and a reference with which
    nobody is to be trained by `trains = False`. One that draws by nothing but what it knows when a deployment begins
    may say what that is, see `draw_plan.Planned`; one that changes what the drawn rows tell, see `rewriting.Rewriting`.

    What rows hold is `experience[rows]`, a `Transition`: their rewards are `experience[rows].reward`.
    """

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


def prefers_rows(sampler: Sampler[Any]) -> bool:
    """Whether some rows of a source are likelier than others for what they hold; so unless the sampler denies it."""
    return bool(getattr(sampler, "prefers_rows", True))


def trains(sampler: Sampler[Any]) -> bool:
    """Whether a team is trained with what it draws; so unless the sampler denies it."""
    return bool(getattr(sampler, "trains", True))
