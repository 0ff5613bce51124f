"""SMAX: battles of marines in JAX (Rutherford et al. 2024, JaxMARL), which stand in for SMAC and are not SMAC."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from marline.errors import ConfigError, require
from marline.inputs.arguments import checked
from marline.types import ActionMask, AgentID, Spec

MOVES = 5  # four directions, and to stay, which is all that the dead may do
UNIT_FEATURES, OWN_FEATURES = 13, 10
MAP_SIZE = 32.0


@dataclasses.dataclass(frozen=True)
@checked
class Smax:
    """A team of marines against more marines that follow a rule: they shoot at who is nearest, or go and look.

    JaxMARL's `HeuristicEnemySMAX` as it comes, every rule of it: weapons, observations, rewards and
    horizon are not those of SMAC, so that no return is comparable to one of StarCraft. A step pays
    the share of all enemies' health that was shot away, and 1 for a victory: 2 is the most.

    Observation of a marine, 13 numbers for each other unit, none but zeros beyond its sight of 9: health, relative
    position, last move, last target, cooldown, type; then 10 of its own. The dead see zeros and may only stay; what
    the team earns is paid to them too.

    Attributes:
        num_allies: how many learn.
        num_enemies: how many follow the rule.
    """

    num_allies: int = 5
    num_enemies: int = 6
    horizon: int = 100

    def __post_init__(self) -> None:
        for name in ("num_allies", "num_enemies", "horizon"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, but must be at least 1")

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return tuple(f"agent_{i}" for i in range(self.num_allies))

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        size = UNIT_FEATURES * (self.num_allies + self.num_enemies - 1) + OWN_FEATURES
        return dict.fromkeys(self.agents, Spec(size, MOVES + self.num_enemies, discrete=True))

    @property
    def description(self) -> str:
        return (
            f"{self.num_allies} marines fight {self.num_enemies} that follow a rule, in SMAX, which is not SMAC "
            "(Rutherford et al. 2024; in place of OTC Fig. 6d)"
        )

    def reset(self, *, key: PRNGKeyArray) -> Any:
        """Both teams near their ends of the map."""
        return _battle(self).reset(key)[1]

    def step(
        self, state: Any, actions: Mapping[AgentID, Array], *, key: PRNGKeyArray
    ) -> tuple[Any, Float[Array, ""], Bool[Array, ""]]:
        """Both teams act; terminal when one of them is dead."""
        orders = {f"ally_{i}": actions[agent] for i, agent in enumerate(self.agents)}
        _, after, rewards, _, _ = _battle(self).step_env(key, state, orders)
        alive = after.state.unit_alive
        over = ~jnp.any(alive[: self.num_allies]) | ~jnp.any(alive[self.num_allies :])
        return after, rewards["ally_0"].astype(jnp.float32), over

    def observe(self, state: Any) -> Mapping[AgentID, Float[Array, " obs"]]:
        seen = _battle(self).get_obs(state)
        return {agent: seen[f"ally_{i}"] for i, agent in enumerate(self.agents)}

    def action_masks(self, state: Any) -> Mapping[AgentID, ActionMask]:
        allowed = _battle(self).get_avail_actions(state)
        return {agent: allowed[f"ally_{i}"].astype(bool) for i, agent in enumerate(self.agents)}

    def drawing(self, state: Any) -> Mapping[str, Float[Array, "n 2"]]:
        """Both teams; the dead stay where they fell."""
        places = state.state.unit_positions / (MAP_SIZE / 2) - 1.0
        fallen = jnp.where(state.state.unit_alive[:, None], jnp.nan, places)
        return {"agents": places[: self.num_allies], "others": places[self.num_allies :], "fallen": fallen}


@functools.cache
def _battle(task: Smax) -> Any:
    try:
        # its tables, some made when it is imported, must not become tracers of whoever comes first
        with jax.ensure_compile_time_eval(), _silent():
            # an extra, which the machine that checks types need not have
            from jaxmarl.environments.smax import HeuristicEnemySMAX  # pyright: ignore[reportMissingImports]

            return HeuristicEnemySMAX(num_allies=task.num_allies, num_enemies=task.num_enemies, max_steps=task.horizon)
    except ImportError as error:
        raise ConfigError(
            f"SMAX needs JaxMARL, and {error.name or 'it'} is not there: pip install 'marline[smac]'"
        ) from None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """For importing JaxMARL, which prints what else it looks for, and sets the streams to `sys.__stdout__`."""
    shown = sys.stdout, sys.stderr, sys.__stdout__
    sys.stdout = sys.__stdout__ = io.StringIO()
    try:
        yield
    finally:
        sys.stdout, sys.stderr, sys.__stdout__ = shown
