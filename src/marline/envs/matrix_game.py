"""A matrix game in which one agent's best choice hangs on what the other takes to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.envs.finite import FiniteModel
from marline.envs.scripted import Choosing
from marline.errors import require_shares
from marline.inputs.arguments import checked
from marline.types import ActionMask, AgentID, Policy, Spec

AGENTS = ("agent_0", "agent_1")
PAYOFFS = ((0.3, 0.5), (0.0, 1.0))  # [first agent's choice, second agent's]


class State(NamedTuple):
    """What both chose, 1 or -1 for the second choice and the first; 0 before the only step."""

    choices: Float[Array, " 2"]


@dataclasses.dataclass(frozen=True)
@checked
class MatrixGame:
    """Two agents choose once, at the same time, and both are paid the same.

    |  | agent_1: 0 | agent_1: 1 |
    |---|---|---|
    | **agent_0: 0** | 0.3 | 0.5 |
    | **agent_0: 1** | 0 | 1 |

    In the logs of the past team agent_1 chose 1 in one of ten episodes, and agent_0 in half of them. Whoever learns
    from them as agent_1 takes to 1, which earns more whatever agent_0 does; and agent_0 to 0 (0.32 against 0.1), which
    beside today's agent_1 is the lesser (0.5 against 1). So agent_0 has to learn that the other changed, and
    agent_1 has no reason to change again, whatever it learns of agent_0.

    Observation, 1 number: what the other one chose, -1 or 1, which is seen afterwards only; 0 before.

    Attributes:
        rare: how often agent_1 chose 1 in the past.
        bold: how often agent_0 did.
    """

    rare: float = 0.1
    bold: float = 0.5
    horizon: int = 1

    def __post_init__(self) -> None:
        require_shares(self, "rare", "bold")

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return AGENTS

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        return dict.fromkeys(AGENTS, Spec(1, 2, discrete=True))

    @property
    def description(self) -> str:
        return "two agents choose once: what is best for the one hangs on the other, who changed (ours)"

    def reset(self, *, key: PRNGKeyArray) -> State:
        return State(jnp.zeros(2))

    def step(
        self, state: State, actions: Mapping[AgentID, Array], *, key: PRNGKeyArray
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """Be paid; it is over."""
        first, second = (actions[agent] for agent in AGENTS)
        choices = 2.0 * jnp.stack([first, second]).astype(jnp.float32) - 1.0
        return State(choices), jnp.array(PAYOFFS)[first, second], jnp.bool_(True)

    def observe(self, state: State) -> Mapping[AgentID, Float[Array, " obs"]]:
        return {AGENTS[0]: state.choices[1:], AGENTS[1]: state.choices[:1]}

    def action_masks(self, state: State) -> Mapping[AgentID, ActionMask]:
        return dict.fromkeys(AGENTS, jnp.ones(2, bool))

    def drawing(self, state: State) -> Mapping[str, Float[Array, "n 2"]]:
        """Agents side by side: up for the second choice, down for the first."""
        return {"agents": jnp.stack([jnp.array([-0.4, 0.4]), 0.6 * state.choices], axis=1)}

    def conventions(self) -> Mapping[str, Mapping[AgentID, Policy]]:
        """One past team, in which agent_1 chose 1 rarely."""
        chances = ((1.0 - self.bold, self.bold), (1.0 - self.rare, self.rare))
        rules = [lambda observation, its=its: jnp.array(its) for its in chances]
        return {"rare": {agent: Choosing(rule, 2) for agent, rule in zip(AGENTS, rules, strict=True)}}

    def model(self) -> FiniteModel:
        """One state, and no next one."""
        return FiniteModel(np.ones(1), np.zeros((1, 2, 2, 1)), np.array([PAYOFFS]), 1)

    def states_of(self, observations: Float[np.ndarray, "n obs"], agent: int) -> Int[np.ndarray, " n"]:
        return np.zeros(len(observations), np.int64)

    def observations_of(self, agent: int) -> Float[np.ndarray, "S obs"]:
        return np.zeros((1, 1), np.float32)
