"""`marline train, ingest, tune, status, rollback, verify`: a team in the real world, from a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from marline.cli.options.shown import command_options
from marline.cli.options.study import Tracker


@command_options
class Train:
    """Train a team offline from its logs, for deployments in the real world: no task, no simulator.

    Goes on where an earlier training of the same run was interrupted; then LOGS and options may be left out, and others
    than those of the run are refused.
    """

    run: Path
    """Run directory, made if it is not there."""
    logs: Positional[Path | None] = None
    """Offline logs: a dataset folder, or anything that `marline data import` reads with a file per agent."""
    algorithm: tuple[str, ...] = ()
    """Offline algorithm of every agent, or AGENT=ALGORITHM for each of them; td3-bc unless given."""
    sampler: str | None = None
    """What chooses the rows of each update when the team is tuned; kernel-ratio unless given."""
    deployments: int | None = None
    """Number of deployments that are planned, K; later ones are refused. 10 unless given."""
    rows_per_deployment: int | None = None
    """The most rows that an agent logs in one deployment, M, which cannot be changed later; 1 % of the offline rows
    unless given, which of short logs is less than an episode: `train` says so."""
    offline_updates: int | None = None
    """Updates of every agent on its offline logs; 100,000 unless given."""
    updates: int | None = None
    """Updates of every agent after each deployment, L; the paper's unless given: 4000 with BCQ, 2000 otherwise."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers; the paper's unless given: 64 64 with BCQ, 256 256 otherwise."""
    algorithm_option: tuple[str, ...] = ()
    """Options of the algorithm, as NAME=VALUE: alpha_bc=100 learning_rate=1e-4."""
    sampler_option: tuple[str, ...] = ()
    """Options of the sampler and of OTC's distance, as NAME=VALUE: alpha=2 adaptive=false compare=next."""
    seed: int | None = None
    """Seed of all randomness; 0 unless given."""
    clip_actions: bool = False
    """Cut the continuous actions of the logs to their range instead of refusing others."""
    strict: bool = False
    """Refuse to go on with another version of JAX or device than before, which may round differently."""
    trust: bool = False
    """Import and run the code that --algorithm, --sampler and the run name, as MODULE:NAME."""
    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; on a GPU if there is one that JAX can use, unless given. `marline doctor` tells."""
    log: tuple[Tracker, ...] = ()
    """Also log what is measured to these: in ./tensorboard, ./wandb or ./mlflow.db, and nowhere else unless WANDB_MODE
    or MLFLOW_TRACKING_URI says so."""


@command_options
class Ingest:
    """Bring in the logs of the deployment that is out: all agents or none. The same logs again change nothing.

    Logs of some agents wait for those of the others, which may come with a later `marline ingest`.
    """

    run: Positional[Path]
    """Run directory."""
    logs: Positional[Path | None] = None
    """What came back: the folder that run_policy.py wrote, a folder of those, or logs in any format that is read.
    Tables are read as the offline logs were, by the mapping that was kept with them; a column `policy_sha256` tells
    which policy acted."""
    allow_missing: bool = False
    """Do without the agents whose logs did not come: they keep their policies and data as they are."""
    unstamped: bool = False
    """Take logs that do not tell which policy acted. Nothing but your word then says that it was the right one."""
    replace: bool = False
    """Let these logs take the place of others that wait."""
    clip_actions: bool = False
    """Cut continuous actions to their range instead of refusing others."""
    more: bool = False
    """These are a part of what their agents logged: the next logs of an agent go behind them, until some come without
    --more. With --allow-missing and no LOGS, what is there is all."""
    policy_of: Path | None = None
    """The bundles that acted, the folder that `marline export` wrote, for logs that do not tell it."""
    mapping: Path | None = None
    """Mapping file that says how to read these tables, in the place of the one that the run keeps. `marline data import
    TABLE --mapping RUN` writes that one, to be edited."""
    json: bool = False
    """Print what became of them as JSON."""
    trust: bool = False
    """Import and run the code that the run names, as MODULE:NAME."""


@command_options
class Tune:
    """Tune the team on the logs that were brought in."""

    run: Positional[Path]
    """Run directory."""
    agent: tuple[str, ...] = ()
    """Tune only these agents, as if all others were frozen."""
    freeze: tuple[str, ...] = ()
    """Agents that keep their policies; their logs are merged all the same."""
    strict: bool = False
    """Refuse to go on with another version of JAX or device than before, which may round differently."""
    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; on a GPU if there is one that JAX can use, unless given. `marline doctor` tells."""
    log: tuple[Tracker, ...] = ()
    """Also log what is measured, as for `marline train`."""
    json: bool = False
    """Print what was measured as JSON."""
    trust: bool = False
    """Import and run the code that the run names, as MODULE:NAME."""


@command_options
class Status:
    """Say where a campaign stands, what is left of its budget, and which command comes next."""

    run: Positional[Path]
    """Run directory."""
    json: bool = False
    """Print as JSON."""


@command_options
class Rollback:
    """Let agents go on from what they were after an earlier deployment; the next bundles carry those policies.

    What was logged since stays. --to with the number of the last deployment takes a rollback back.
    """

    run: Positional[Path]
    """Run directory."""
    to: int
    """The last deployment that they were tuned on then; 0 are the offline policies."""
    agent: tuple[str, ...] = ()
    """Who goes back; everyone unless given."""
    trust: bool = False
    """Import and run the code that the run names, as MODULE:NAME."""


@command_options
class Verify:
    """Check every file of a run against its hashes, and against what other files say of it.

    Exits with status 3 if one was altered, exchanged or lost."""

    run: Positional[Path]
    """Run directory."""
    replay: bool = False
    """Also train the last deployment again, of a study that of every sampler and seed, and compare what is served."""
    trust: bool = False
    """Import and run the code that the run names, as MODULE:NAME."""
    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; on a GPU if there is one that JAX can use, unless given. `marline doctor` tells."""
