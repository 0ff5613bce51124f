"""An environment of your own as a task: two thermostats share a house, and each room warms the other.

    python examples/custom_environment.py                      # random logs, offline training, three deployments
    cd examples && marline run --task custom_environment:make_env --trust --algorithm cql \\
        --sampler otc-value uniform online-matched --run runs/house --dataset-size 20000 --offline-updates 2000

Needs PettingZoo and Gymnasium: pip install 'marline[parallel]'.
"""

import sys
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

import marline

WANTED, OUTSIDE = 21.0, 5.0
HEAT = np.array([0.0, 1.0, 3.0])  # degrees that off, low and high add per step


class House(ParallelEnv):
    """Each thermostat sees its room and chooses off, low or high; both are paid for comfort less the price of heat."""

    metadata = {"name": "house"}
    possible_agents = ["north", "south"]

    def observation_space(self, agent):
        return Box(-5.0, 5.0, (1,), np.float32)

    def action_space(self, agent):
        return Discrete(len(HEAT))

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self._rooms = np.random.default_rng(seed).uniform(10.0, 25.0, 2)
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        heat = HEAT[[actions[agent] for agent in self.agents]]
        leaking = 0.1 * (OUTSIDE - self._rooms) + 0.2 * (self._rooms[::-1] - self._rooms)
        self._rooms = self._rooms + heat + leaking
        reward = float(-np.abs(self._rooms - WANTED).mean() - 0.2 * heat.mean())
        seen, never = self._seen(), dict.fromkeys(self.agents, False)
        return seen, dict.fromkeys(self.agents, reward), never, dict(never), {agent: {} for agent in self.agents}

    def _seen(self):  # in tens of degrees from the middle, for networks like numbers near 1
        return {
            agent: np.array([(room - 15.0) / 10.0], np.float32)
            for agent, room in zip(self.agents, self._rooms, strict=True)
        }


def make_env():
    return House()


def main(folder: Path, *, rows: int = 20_000, updates: int = 4000) -> None:
    task = marline.ParallelTask(make_env, max_steps=50)
    run = marline.Campaign.create(
        folder / "run",
        marline.collect_random(task, rows, seed=0),
        algorithm=marline.CQL(hidden=(32, 32), learning_rate=1e-3, gamma=0.95),
        sampler=marline.OTC(distance="value"),
        rows_per_deployment=500,
        deployments=3,
        offline_updates=updates,
        updates=updates // 4,
    )
    run.train()
    for _ in range(3):
        run.tune(run.deploy(task))
    print("return per episode of each deployed team:", [f"{value:.1f}" for value in run.returns])
    print("report:", run.report())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/house"))
