"""`marline data ...`: everybody else's logs, in and out, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from marline.cli.options.shown import command_options


@command_options
class Import:
    """Turn a log into a folder with one file per agent, which holds that agent's own actions only.

    Without --out, shows what a table holds and how it would be read, and writes that into a mapping file to edit.

    Reads D4RL's HDF5 or NPZ, Minari folders, Parquet, CSV and JSONL tables, OG-MARL vaults, and folders with one of
    them per agent. A log of all agents together is split by --task or --spec. Files may be larger than memory.
    """

    source: Positional[Path]
    """File or folder to read."""
    out: Path | None = None
    """Dataset folder to make; without it, nothing is imported."""
    mapping: Path | None = None
    """Mapping file that says how to read a table, or a dataset folder or a run that keeps one; written if it is not
    there, as import.toml unless given."""
    yes: bool = False
    """Accept what would be shown of a table, and import it."""
    align: bool = False
    """Keep only the steps of a table that all agents have; what that loses is told. Learning does not need it."""
    task: str | None = None
    """Task that the log comes from: says which agents there are, and their columns in order."""
    trust: bool = False
    """Import and run the code that --task names, as MODULE:FUNCTION."""
    spec: Path | None = None
    """JSON that says which columns are whose: {"agents": {"left": {"observations": "0:9", "actions": [0, 1]}, ...}};
    of an agent's one action column "discrete": 5 says that it holds choices, "continuous": true that whole numbers are
    none. "low" and "high" are the range of its actions in the field, which policies will answer in: a number for all,
    or a list. "names" and "units" are lists of the actions', or {"observations": [...], "actions": [...]}."""
    column: tuple[str, ...] = ()
    """What a table calls its columns, as KEY=NAME: agent=robot observations=sensor_* actions=motor_left,motor_right.
    Keys are agent, episode, step, observations, actions, rewards, terminals, timeouts, next_observations, action_masks,
    next_action_masks, timestamps and policy. Beside a mapping file, these win."""
    rewards: Literal["per-agent", "shared"] | None = None
    """Whose the rewards are: each agent's own, or one that all agents share; kept with the logs."""
    clip_actions: bool = False
    """Cut continuous actions to their range, [-1, 1] unless --spec says otherwise, instead of refusing others; refused
    where it would change most of them."""
    replace: bool = False
    """Replace a dataset that is there already."""


@command_options
class Export:
    """Write a dataset folder in another format, one Minari dataset or Parquet table per agent."""

    folder: Positional[Path]
    """Dataset folder."""
    format: Literal["minari", "parquet"]
    """What to write."""
    out: Path
    """Folder to make. Minari finds it as the namespace NAME if it is $MINARI_DATASETS_PATH/NAME."""


@command_options
class Check:
    """Say what is wrong with logs: agent, file, row, rule and fix. Exits with status 2 if they cannot be trained on."""

    folder: Positional[Path]
    """Dataset folder, or one of plain <agent>.h5 files in D4RL's keys, or a table."""
    mapping: Path | None = None
    """How to read a table: a mapping file, or a dataset folder or a run that keeps one."""
    task: str | None = None
    """Also check agents and sizes against this task."""
    trust: bool = False
    """Import and run the code that --task names, as MODULE:FUNCTION."""
    html: Path | None = None
    """Write a page with tables, histograms and what the data cover."""
    clip_actions: bool = False
    """Only warn of continuous actions outside their range."""
    json: bool = False
    """Print as JSON."""


@command_options
class Make:
    """Make logs of a task: random play, medium, medium-replay or expert of a robot, or what past teams of a task did.

    Random is uniformly random play. Medium is played by a policy that soft actor-critic had learned when it first
    reached a third of the return that D4RL takes for an expert's, expert by one that reached all of it, and
    medium-replay is all that was played until medium was reached. They are like D4RL's logs and not D4RL's.

    In mixed every agent acts at random with a probability that is drawn for each episode, and otherwise as in medium,
    or as a past team of the task does. In conventions every episode is of one past team, of several that agreed on
    something else each; in-turns has one past team, beside which whoever logs acts at random in half of the steps; and
    every past team can be named, such as traffic-cologne3/fixed-time, actuated or max-pressure. Past teams have
    traffic signals, particle worlds, and matrix, swap, pass, meet and continuous-swap.
    """

    name: Positional[str]
    """What to make, such as cooperative-navigation-4/random, halfcheetah-2x3/medium or traffic-cologne3/fixed-time."""
    out: Path
    """Dataset folder to make."""
    size: int | None = None
    """Transitions per agent; a million unless given. Of medium-replay the latest, all of them unless given."""
    seed: int = 0
    """Seed of the episodes that are logged."""
    training: Path | None = None
    """Folder in which a policy is learned, or was. Unless given the policy that comes with marline is played if there
    is one, and OUT.training is the folder otherwise. What was interrupted goes on there."""
    training_seed: int = 0
    """Seed of the learning; with 0 a policy of each robot comes with marline, with 1 of HalfCheetah another."""
    max_steps: int = 1_000_000
    """Steps of learning after which to give up."""

    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; on a GPU if there is one that JAX can use, unless given. `marline doctor` tells."""
    trust: bool = False
    """Import and run the code that the name of a task of yours, MODULE:FUNCTION/random, points to."""


@command_options
class Get:
    """Get logs or a team by name from a shelf, every file checked by its SHA-256; without a name, say what there is."""

    name: Positional[str | None] = None
    """What to get."""
    mirror: str | None = None
    """Where the shelf is: a folder, or an address with https:// or http://; $MARLINE_MIRROR unless given."""
    out: Path | None = None
    """Folder to make; what it is called, in the working directory, unless given."""
    seal: str | None = None
    """Refuse a shelf with another seal than this."""
    json: bool = False
    """Print as JSON."""


@command_options
class Data:
    """Bring logs in and out, check them, or make some."""

    command: Annotated[
        Annotated[Import, subcommand("import")]
        | Annotated[Export, subcommand("export")]
        | Annotated[Check, subcommand("check")]
        | Annotated[Make, subcommand("make")]
        | Annotated[Get, subcommand("get")],
        arg(name=""),
    ]
