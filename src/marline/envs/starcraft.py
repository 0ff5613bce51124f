"""SMAC: battles of marines in StarCraft II itself (Samvelyan et al. 2019), for those who have the game installed."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marline.envs.task import Actions, TimeStep
from marline.errors import ConfigError, require, require_name
from marline.inputs.arguments import checked
from marline.types import AgentID, Spec

# allies, enemies and steps of SMAC's maps on which both sides have marines alone
MAPS: dict[str, tuple[int, int, int]] = {
    "3m": (3, 3, 60),
    "8m": (8, 8, 120),
    "25m": (25, 25, 150),
    "5m_vs_6m": (5, 6, 70),
    "8m_vs_9m": (8, 9, 120),
    "10m_vs_11m": (10, 11, 150),
    "27m_vs_30m": (27, 30, 180),
}
DEFAULT_FOLDER = "~/StarCraftII"  # where PySC2 looks unless SC2PATH says otherwise

INSTALL = (
    "install StarCraft II 4.10 for Linux (github.com/Blizzard/s2client-proto) into ~/StarCraftII, or name its folder "
    "in SC2PATH; put SMAC_Maps (github.com/oxwhirl/smac, release v0.1-beta1) into its Maps folder; then "
    "pip install git+https://github.com/oxwhirl/smac.git. Without the game there is the task smax-5m_vs_6m"
)


@dataclasses.dataclass(frozen=True)
@checked
class StarCraft:
    """A team of marines against marines of the game's own AI, level 7, by way of the package of SMAC's authors.

    Observations, actions and rewards are SMAC's: of 5m_vs_6m 55 numbers (moves that are open 4, enemies
    6 x 5, allies 4 x 5, own health), 12 actions (nothing, only for the dead; stop; 4 moves; 6 targets), and
    damage, 10 a kill and 200 a victory, scaled so that 20 is the most. A dead side ends an
    episode for good, the limit of steps cuts it. If the game fails, the episode is cut there.

    StarCraft takes a seed only when it is started: unlike in all other tasks, an episode is not
    fixed by its number, and no run is repeated bit for bit.

    Attributes:
        map_name: a map where both sides have marines alone.
        num_environments: games that run side by side in a process; each takes about 1 GB.
    """

    map_name: str = "5m_vs_6m"
    num_environments: int = 1

    def __post_init__(self) -> None:
        require_name(self.map_name, MAPS, "map")
        require(self.num_environments >= 1, f"num_environments is {self.num_environments}, but must be at least 1")

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return tuple(f"agent_{i}" for i in range(MAPS[self.map_name][0]))

    @property
    def horizon(self) -> int:
        return MAPS[self.map_name][2]

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        allies, enemies, _ = MAPS[self.map_name]
        return dict.fromkeys(self.agents, Spec(4 + 5 * enemies + 5 * (allies - 1) + 1, 6 + enemies, discrete=True))

    @property
    def description(self) -> str:
        allies, enemies, _ = MAPS[self.map_name]
        return (
            f"{allies} marines fight {enemies} of the AI in StarCraft II, which must be installed "
            "(Samvelyan et al. 2019; OTC Fig. 6d)"
        )

    def make(self) -> RunningBattle:
        try:
            starcraft2 = importlib.import_module("smac.env").StarCraft2Env
        except (ImportError, AttributeError) as error:  # PyPI's smac is another package
            raise ConfigError(
                f"StarCraft II is played through the package SMAC of oxwhirl, which is not there ({error}): {INSTALL}"
            ) from None
        folder = Path(os.environ.get("SC2PATH") or DEFAULT_FOLDER).expanduser()
        # elsewhere the game has an installer, and PySC2 knows where that puts it
        require(folder.is_dir() or sys.platform != "linux", f"StarCraft II is not in {folder}: {INSTALL}")
        # continuing, or it would not tell a limit from a defeat
        game = starcraft2(map_name=self.map_name, continuing_episode=True)
        return RunningBattle(game, self.agents)


class RunningBattle:
    """SMAC's environment, whose lists go by the numbers of the agents."""

    def __init__(self, game: Any, agents: Sequence[AgentID]) -> None:
        self._game, self._agents = game, tuple(agents)

    def reset(self, *, seed: int) -> TimeStep:
        """Start a battle; the game heeds no seed any more."""
        self._game.reset()
        return self._seen()

    def step(self, actions: Actions) -> TimeStep:
        reward, over, info = self._game.step([int(actions[agent]) for agent in self._agents])
        # a battle that was fought out is told by whether it was won; a game that failed tells nothing
        fought_out = over and "battle_won" in info and not info.get("episode_limit", False)
        return self._seen()._replace(
            rewards=dict.fromkeys(self._agents, reward),
            terminated=self._agents if fought_out else (),
            truncated=self._agents if over and not fought_out else (),
        )

    def close(self) -> None:
        self._game.close()

    def _seen(self) -> TimeStep:
        observations = dict(zip(self._agents, map(np.asarray, self._game.get_obs()), strict=True))
        return TimeStep(observations, action_masks=dict(zip(self._agents, self._game.get_avail_actions(), strict=True)))
