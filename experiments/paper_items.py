"""The tables and figures of the OTC paper (Jiang & Lu 2023) as data: what each is made of, and what it costs.

What the paper says of them, word by word or number by number, is in `experiments/paper_numbers.csv`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from marline.envs import make_task

ROWS, DEPLOYMENTS, OFFLINE_UPDATES = 1_000_000, 10, 100_000  # the paper says nothing of the last


@dataclasses.dataclass(frozen=True)
class Cell:
    """One world, its logs and who learns: one run directory, which items share.

    Attributes:
        name: of the run directory, and in tables.
        task: as `marline list tasks` has it.
        logs: which `marline data make` makes: "random", "medium" or "medium-replay".
        algorithm: by name, with the widths and rates of Table 3.
        updates: L, of each agent after a deployment.
        rows: logged, of each agent; a deployment is a hundredth of them.
        options: of the algorithm, where they are not its own.
        exploration: how often an agent acts at random in its own turn of a deployment (4.6).
        d4rl: what D4RL calls these logs.
        low_return, expert_return: D4RL's references, between which improvements in percent make sense.
    """

    name: str
    task: str
    logs: str
    algorithm: str
    updates: int = 2000
    rows: int = ROWS
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    exploration: float | None = None
    d4rl: str = ""
    low_return: float = 0.0
    expert_return: float = 0.0

    @property
    def num_agents(self) -> int:
        return len(make_task(self.task).agents)


@dataclasses.dataclass(frozen=True)
class Item:
    """A table or figure.

    Attributes:
        name: on the command line.
        title: what the paper shows there.
        cells: what is run.
        samplers: with which, as `--sampler` of `marline run` reads them.
        unit: what is compared: the improvement over the offline team in percent, the return, or time.
        axis: the paper's vertical axis, where its text gives it.
        per_agent: a quantity that is also shown by agent, with a violin over seeds at each deployment.
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    samplers: tuple[str, ...]
    unit: Literal["improvement", "return", "overhead"] = "return"
    axis: tuple[float, ...] = ()
    per_agent: str = ""

    @property
    def stem(self) -> str:
        """What its files are called."""
        return f"paper-{self.name}"


# D4RL's returns of random play and of an expert
ROBOTS = {
    "halfcheetah": ("halfcheetah-2x3", -280.179, 12135.0),
    "walker2d": ("walker2d-2x3", 1.629, 4592.3),
    "hopper": ("hopper-3x1", -20.272, 3234.3),
}
LOGS = ("random", "medium-replay", "medium")


def _robot(algorithm: str, robot: str, logs: str) -> Cell:
    task, low, expert = ROBOTS[robot]
    return Cell(
        f"{algorithm}-{robot}-{logs}",
        task,
        logs,
        algorithm,
        updates=4000 if algorithm == "bcq" else 2000,  # our reading of Table 3, whose columns are lost
        d4rl=f"{robot}-{logs}-v2",
        low_return=low,
        expert_return=expert,
    )


def _particles(algorithm: str, task: str, **options: Any) -> Cell:
    return Cell(f"{algorithm}-{task}", task, "random", algorithm, **options)


BCQ = {(robot, logs): _robot("bcq", robot, logs) for logs in LOGS for robot in ROBOTS}
# "AWAC does not work on halfcheetah-random"
AWAC = {key: _robot("awac", *key) for key in BCQ if key != ("halfcheetah", "random")}
NAVIGATION = {num: _particles("td3-bc", f"cooperative-navigation-{num}") for num in (2, 4, 6, 8)}
DRIFTING = _particles("bcq", "drifting-navigation", updates=4000, rows=100_000)
BATTLE = Cell(
    "cql-smax-5m_vs_6m",
    "smax-5m_vs_6m",
    "medium",
    "cql",
    rows=300_000,  # about 10,000 episodes
    exploration=0.1,
)

D_E, D_Q = "otc-embedding-paper", "otc-value-paper"
CONTROL_E, CONTROL_Q = f"shuffled({D_E})", f"shuffled({D_Q})"
RIVALS = ("uniform", "balanced", "online-only")
ITEMS: dict[str, Item] = {
    item.name: item
    for item in (
        Item(
            "table-1",
            "improvement by tuning over the offline team, BCQ and AWAC on robots",
            (*BCQ.values(), *AWAC.values()),
            ("uniform", D_E, CONTROL_E, D_Q, CONTROL_Q, "offline-only"),
            "improvement",
        ),
        Item(
            "table-2", "time of one update of BCQ", (BCQ["halfcheetah", "random"],), ("uniform", D_E, D_Q), "overhead"
        ),
        Item(
            "fig-3",
            "learning curves of OTC on BCQ",
            tuple(BCQ.values()),
            ("uniform", D_E, CONTROL_E, D_Q, CONTROL_Q),
        ),
        Item(
            "fig-4",
            "adaptive and fixed alpha, and alpha of every agent",
            (BCQ["halfcheetah", "medium-replay"], BCQ["halfcheetah", "random"]),
            ("uniform", D_E, CONTROL_E, f"fixed-1.0={D_E}(adaptive=false)"),
            per_agent="alpha",
        ),
        Item(
            "fig-5",
            "OTC and other ways to sample",
            tuple(BCQ["halfcheetah", logs] for logs in LOGS) + (BCQ["walker2d", "medium-replay"],),
            (*RIVALS, D_E, CONTROL_E),
        ),
        Item(
            "fig-6a",
            "BREMEN on Predator-Prey",
            (_particles("bremen", "predator-prey"),),
            ("uniform", D_E, CONTROL_E, "offline-only"),
            axis=(15.0, 35.0),
        ),
        Item(
            "fig-6b",
            "BREMEN on Cooperative Navigation, N = 4",
            (_particles("bremen", "cooperative-navigation-4"),),
            ("uniform", D_E, CONTROL_E, "offline-only"),
            axis=(-110.0, -70.0),
        ),
        Item(
            "fig-6c",
            "BCQ on single-agent navigation in a world that drifts",
            (DRIFTING,),
            ("uniform", D_E, CONTROL_E, "offline-only"),
            axis=(-2.0, 12.0),
        ),
        Item(
            "fig-6d",
            "CQL on 5m_vs_6m: SMAX in place of SMAC",
            (BATTLE,),
            ("uniform", D_Q, CONTROL_Q, "offline-only"),
            axis=(6.0, 10.0),
        ),
        Item(
            "fig-7",
            "TD3+BC on Cooperative Navigation with 2, 4, 6 and 8 agents",
            tuple(NAVIGATION.values()),
            ("uniform", D_Q, CONTROL_Q, "offline-only"),
        ),
        Item(
            "fig-8",
            "Cooperative Navigation: alpha, and other ways to sample",
            (NAVIGATION[4], NAVIGATION[6]),
            (*RIVALS, D_Q, CONTROL_Q, *(f"fixed-{a}={D_Q}(alpha={a}, adaptive=false)" for a in (0.5, 1.0, 2.0))),
        ),
    )
}

# Milliseconds of one CPU core per update with uniform replay at the widths of Table 3, and how many times as long d_e
# and d_q take: docs/performance.md. Nobody has measured CQL and BREMEN so; they are taken to cost what TD3+BC does.
RATES = {"bcq": (2.9, 1.5, 12.7), "awac": (6.7, 1.8, 5.7), "td3-bc": (3.2, 1.8, 5.7)}
STEPS_PER_SECOND = 10_000  # of a robot, on one core; worlds in JAX cost next to nothing
ROBOT_EPISODES, ROBOT_STEPS = 10, 1000  # evaluated after each deployment, at most so long


def core_hours(item: Item, cell: Cell, seeds: int) -> float:
    """About how long one core takes for a cell of an item, learners one after another."""
    if item.unit == "overhead":
        return 0.1
    rate, embedding, value = RATES.get(cell.algorithm, RATES["td3-bc"])
    passes = [embedding if D_E in one else value if D_Q in one else 1.0 for one in item.samplers]
    updates = OFFLINE_UPDATES + DEPLOYMENTS * cell.updates * sum(passes)
    steps = DEPLOYMENTS * len(passes) * (cell.rows // 100 + ROBOT_EPISODES * ROBOT_STEPS) if cell.d4rl else 0
    return seeds * (cell.num_agents * updates * rate / 1000 + steps / STEPS_PER_SECOND) / 3600
