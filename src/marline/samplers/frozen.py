"""The reference that is never trained: what of a return is the world's doing."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NoReturn

from jaxtyping import PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.types import Critic, Metrics


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Leaves the team as it was trained offline; a study evaluates it beside the others and makes no update.

    Where the world drifts, the others are to be read against it: its return changes by the world alone.
    """

    prefers_rows: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def begin_deployment(
        self, state: tuple[()], experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[tuple[()], Metrics]:
        return (), {}

    def sample(self, state: tuple[()], experience: Experience, critic: Critic | None, *, key: PRNGKeyArray) -> NoReturn:
        raise ConfigError("a frozen team is not trained, so it draws no rows; it is a reference for studies")
