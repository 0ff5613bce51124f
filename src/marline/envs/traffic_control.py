"""How signals are controlled without learning: by a program, by who is there, by pressure."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.types import ActionMask

MAX_GREEN = 50.0  # seconds, the networks' maxDur
MINUTE = 60.0


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where what is in the observation of a signal, see `marline.envs.Traffic`."""

    num_phases: int
    num_lanes: int

    @property
    def size(self) -> int:
        return 2 * self.num_phases + 1 + 4 * self.num_lanes

    @property
    def phase(self) -> slice:
        return slice(0, self.num_phases)

    @property
    def green(self) -> int:
        return self.num_phases

    @property
    def pressure(self) -> slice:
        return slice(self.num_phases + 1, 2 * self.num_phases + 1)

    @property
    def approach(self) -> slice:
        return self._of_lanes(0)

    @property
    def wait(self) -> slice:
        return self._of_lanes(1)

    @property
    def queue(self) -> slice:
        return self._of_lanes(2)

    @property
    def speed(self) -> slice:
        return self._of_lanes(3)

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        lanes = [f"{what}_{i}" for what in ("approach", "wait", "queue", "speed") for i in range(self.num_lanes)]
        phases, pressures = ([f"{what}_{i}" for i in range(self.num_phases)] for what in ("phase", "pressure"))
        return [*phases, "green", *pressures, *lanes]

    def _of_lanes(self, number: int) -> slice:
        start = 2 * self.num_phases + 1 + number * self.num_lanes
        return slice(start, start + self.num_lanes)


class FixedTime(eqx.Module):
    """The network's program: each phase in its turn, for as long as the program says, to the nearest step.

    Attributes:
        layout: of the observation.
        durations: seconds of green of each phase.
        step_seconds: from one choice to the next.
    """

    layout: Layout = eqx.field(static=True)
    durations: tuple[float, ...] = eqx.field(static=True)
    step_seconds: int = eqx.field(static=True)

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Int[Array, ""]:
        shown, green = _now(observation, self.layout)
        is_over = _is_over(shown, green, self.durations, self.step_seconds)
        return _if_allowed(jnp.where(is_over, (shown + 1) % self.layout.num_phases, shown), shown, action_mask)


class Actuated(eqx.Module):
    """The network's program, less what nobody needs: phases end when their lanes are empty, or are left out.

    Where nobody is in any lane, the light stays.

    Attributes:
        layout: of the observation.
        durations: seconds of green of each phase, at most.
        step_seconds: from one choice to the next.
        served: for each phase, which lanes it gives priority to.
    """

    layout: Layout = eqx.field(static=True)
    durations: tuple[float, ...] = eqx.field(static=True)
    step_seconds: int = eqx.field(static=True)
    served: tuple[tuple[bool, ...], ...] = eqx.field(static=True)

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Int[Array, ""]:
        shown, green = _now(observation, self.layout)
        is_taken = observation[self.layout.approach] + observation[self.layout.queue] > 0
        is_wanted = (jnp.array(self.served) & is_taken[None]).any(axis=1)
        turn = (shown + 1 + jnp.arange(self.layout.num_phases)) % self.layout.num_phases  # the one shown comes last
        following = jnp.where(is_wanted.any(), turn[jnp.argmax(is_wanted[turn])], shown)
        holds = is_wanted[shown] & ~_is_over(shown, green, self.durations, self.step_seconds)
        return _if_allowed(jnp.where(holds, shown, following), shown, action_mask)


class MaxPressure(eqx.Module):
    """The phase of the highest pressure (Varaiya 2013), for 50 s on end at most; of several the one that is shown.

    Without an end, drivers who turn left through those who come towards them may block one another until all stands.
    """

    layout: Layout = eqx.field(static=True)

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Int[Array, ""]:
        shown, green = _now(observation, self.layout)
        is_shown = jnp.arange(self.layout.num_phases) == shown
        pressure = jnp.where(is_shown & (green >= MAX_GREEN), -jnp.inf, observation[self.layout.pressure])
        highest = jnp.where(pressure[shown] >= pressure.max(), shown, jnp.argmax(pressure))
        return _if_allowed(highest, shown, action_mask)


def _now(observation: Float[Array, " obs"], layout: Layout) -> tuple[Int[Array, ""], Float[Array, ""]]:
    """Which phase is shown, and for how many seconds it has been green."""
    return jnp.argmax(observation[layout.phase]), observation[layout.green] * MINUTE


def _is_over(
    shown: Int[Array, ""], green: Float[Array, ""], durations: tuple[float, ...], step_seconds: int
) -> Bool[Array, ""]:
    """Whether the phase shown ends nearer to now than to the next choice."""
    return green >= jnp.array(durations)[shown] - step_seconds / 2


def _if_allowed(wanted: Int[Array, ""], shown: Int[Array, ""], mask: ActionMask | None) -> Int[Array, ""]:
    return wanted if mask is None else jnp.where(mask[wanted], wanted, shown)
