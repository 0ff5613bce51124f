"""Uniform draws: from everything, from the offline rows, or from the current deployment."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from jaxtyping import Array, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require, require_name
from marline.inputs.arguments import checked
from marline.ops.row_draws import Count, rows_with_replacement
from marline.samplers.draw_plan import ONE, DrawPlan, plan_of_windows
from marline.types import Critic, Metrics


@dataclasses.dataclass(frozen=True)
@checked
class Uniform:
    """Rows drawn with replacement, all equally likely.

    Attributes:
        rows: "merged" draws from B^k, "offline" from B^0 alone, "online" from D^k alone.
        batch_size: rows per update.
    """

    rows: Literal["merged", "offline", "online"] = "merged"
    batch_size: int = 128
    prefers_rows: ClassVar[bool] = False
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_name(self.rows, ("merged", "offline", "online"), "window of rows")
        require(self.batch_size > 0, f"batch_size is {self.batch_size}, but an update needs at least 1 row")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def begin_deployment(
        self, state: tuple[()], experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[tuple[()], Metrics]:
        return (), {}

    def sample(
        self, state: tuple[()], experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], tuple[()], Metrics]:
        return rows_with_replacement(*self._window(experience), self.batch_size, key=key), (), {}

    def plan(self, state: tuple[()], experience: Experience) -> DrawPlan:
        return plan_of_windows(ONE, (*self._window(experience), 1.0))

    def _window(self, experience: Experience) -> tuple[Count, Count]:
        return {
            "merged": (0, experience.size),
            "offline": (0, experience.num_offline),
            "online": (experience.online_start, experience.size),
        }[self.rows]
