"""`marline demo, run, resume, play, report, export`: studies, and what is made of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from marline.cli.options.shown import command_options

Tracker = Literal["tensorboard", "wandb", "mlflow"]


@command_options
class Demo:
    """Tune a team whose logs are outdated, and one whose logs tell the truth, and write a report of both.

    A game of two agents, who choose once. In the first logs one of them did otherwise than it will: correction finds
    the rows that still hold. In the second nobody will change: it finds nothing, and rows are drawn as by uniform
    replay. Takes about a minute on two cores, half of it compiling.
    """

    run: Path | None = None
    """Folder for both run directories and the report; runs/demo unless given, with --quick runs/demo-quick."""
    quick: bool = False
    """Do each step only just, in seconds: shows that the installation works, and its numbers mean nothing."""
    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; on a GPU if there is one that JAX can use, unless given. `marline doctor` tells."""


@command_options
class Run:
    """Compare samplers on a task: offline training, then K deployments with tuning, for several seeds."""

    run: Path
    """Run directory to make."""
    task: str = "cooperative-navigation-4"
    """Task, as `marline list` names it, or MODULE:FUNCTION that makes an environment of yours, with --trust."""
    tasks: tuple[str, ...] = ()
    """Several of them instead, each in a run directory below --run that has its name. On a GPU one learns while another
    plays."""
    trust: bool = False
    """Import and run the code that --task, --tasks, --algorithm and --sampler name, as MODULE:NAME."""
    algorithm: tuple[str, ...] = ("td3-bc",)
    """Offline algorithm of every agent, or AGENT=ALGORITHM for each of them."""
    sampler: tuple[str, ...] = ()
    """Samplers to compare, as NAME, NAME(OPTION=VALUE, ...) or VARIANT=NAME(...); unless given kernel-ratio,
    uniform and the shuffled control. `shuffled` and `online-matched` add those of every sampler that prefers rows."""
    seeds: int = 5
    """Number of seeds: independent repetitions on the same offline logs. A run that is there already gains those, and
    those samplers, that it lacks."""
    dataset_size: int | None = None
    """Offline transitions per agent, from uniformly random play; a million unless given."""
    data: Path | None = None
    """Offline logs to learn from instead: a dataset folder of the task's agents, which is copied into the run."""
    clip_actions: bool = False
    """Cut the continuous actions of these logs to their range instead of refusing others."""
    offline_updates: int = 100_000
    """Updates of every agent on its offline logs."""
    deployments: int = 10
    """Number of deployments, K."""
    updates: int | None = None
    """Updates of every agent after each deployment, L; the paper's unless given: 4000 with BCQ, 2000 otherwise."""
    deployment_fraction: float = 0.01
    """Rows logged per deployment, as a fraction of the offline rows."""
    evaluation_episodes: int | None = None
    """Episodes per evaluation; unless given 1000, or 10 where a simulator is stepped, as for MuJoCo."""
    sequential_exploration: float | None = None
    """Let agents collect one after another; in its turn, an agent acts at random with this probability: 0.1 for
    example. A deployment then costs as many times the steps as there are agents."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers; the paper's unless given: 64 64 with BCQ, 256 256 otherwise."""
    algorithm_option: tuple[str, ...] = ()
    """Options of the algorithm, as NAME=VALUE: alpha_bc=100 learning_rate=1e-4."""
    sampler_option: tuple[str, ...] = ()
    """Options of samplers and of OTC's distances, as NAME=VALUE: alpha=2 adaptive=false compare=next."""
    data_seed: int = 0
    """Seed of the offline logs."""
    engine: Literal["local", "ray"] = "local"
    """Compute on the cores of this machine, or over a Ray cluster; the results are the same bytes."""
    address: str | None = None
    """HOST:PORT of the Ray cluster; unless given, the one that this machine is part of, or else one of its own."""
    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; on a GPU if there is one that JAX can use, unless given. `marline doctor` tells."""
    log: tuple[Tracker, ...] = ()
    """Also log what is measured, while it runs, to these: in ./tensorboard, ./wandb or ./mlflow.db, and nowhere else
    unless WANDB_MODE or MLFLOW_TRACKING_URI says so."""
    json: bool = False
    """Print the summary as JSON."""


@command_options
class Resume:
    """Go on with an interrupted run, which ends bit-identical to an uninterrupted one; or add seeds and samplers."""

    run: Positional[Path]
    """Run directory."""
    seeds: int | None = None
    """Number of seeds that the run is to have; it never loses any."""
    sampler: tuple[str, ...] = ()
    """Samplers to add, as for `marline run`; `shuffled` adds that control to every sampler that prefers rows."""
    trust: bool = False
    """Import and run the code that the run names, as MODULE:NAME."""
    engine: Literal["local", "ray"] = "local"
    """Where to compute; it need not be where the run began."""
    address: str | None = None
    """HOST:PORT of the Ray cluster, as for `marline run`."""
    strict: bool = False
    """Refuse to go on with another version of JAX or device than before, which may round differently."""
    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; on a GPU if there is one that JAX can use, unless given. `marline doctor` tells."""
    log: tuple[Tracker, ...] = ()
    """Also log what is measured, as for `marline run`."""
    json: bool = False
    """Print the summary as JSON."""


@command_options
class Play:
    """Play episodes with a team of a run, or at random, and record them."""

    run: Positional[Path | None] = None
    """Run directory; with --mirror, what a team is called on that shelf, whose run directory is first put into the
    working directory unless it is there; without one, the agents of --task act at random."""
    mirror: str | None = None
    """Where the shelf is, as for `marline data get`; $MARLINE_MIRROR unless given."""
    seal: str | None = None
    """Refuse a shelf with another seal than this."""
    task: str | None = None
    """Task, where there is no run, as `marline run` takes it."""
    trust: bool = False
    """Import and run the code that the run or --task names, as MODULE:NAME."""
    sampler: str | None = None
    """Which team, where the run compares several."""
    seed: int | None = None
    """The same; without a run, the seed of what happens."""
    deployment: int | None = None
    """The last one that the team was tuned on, 0 for the offline team; the last there is unless given."""
    episodes: int = 3
    """How many episodes."""
    video: Path | None = None
    """Record them in this .gif, .webp or .png, all of which can move."""
    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; on a GPU if there is one that JAX can use, unless given. `marline doctor` tells."""
    json: bool = False
    """Print as JSON."""


@command_options
class Report:
    """Write one self-contained HTML page about one or more runs, finished or not."""

    runs: Positional[tuple[Path, ...]]
    """Run directories."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The page; report.html in the first run directory unless given."""
    csv: Path | None = None
    """Also write a table with a row per sampler, seed and deployment, and beside it FILE-differences.csv, with a row
    per comparison: difference, interval, p and finding; where agents have rewards of their own, FILE-agents.csv too."""
    summary: Path | None = None
    """Also write the table of final returns and differences, as Markdown."""
    figure: Path | None = None
    """Also write the figure of returns, as SVG."""
    decomposition: Path | None = None
    """Also draw how much of each difference to uniform replay is correction, diversity and freshness, as SVG."""
    pandas: Path | None = None
    """Also write all that was measured as a Parquet table for pandas.read_parquet: a row per sampler, seed, deployment,
    agent and quantity."""
    log: tuple[Tracker, ...] = ()
    """Also log what was measured to these, as `marline run --log` does while it runs."""
    tensorboard: Path | None = None
    """Also write TensorBoard logs below this folder, for: tensorboard --logdir FOLDER."""
    sampler: tuple[str, ...] = ()
    """Draw only these samplers in the figure."""
    json: bool = False
    """Print the table of final returns and differences as JSON."""


@command_options
class Export:
    """Write one bundle per agent for the field: its policy as ONNX, a contract, golden vectors, a script to run it."""

    run: Positional[Path]
    """Run directory."""
    out: Path | None = None
    """Gets one folder per agent; `bundles` beside the policies in the run directory unless given."""
    deployment: int | None = None
    """The last deployment that the policies were tuned on, 0 for the offline ones; the last there is unless given."""
    agent: tuple[str, ...] = ()
    """Whose bundles; everyone's unless given."""
    sampler: str | None = None
    """Which team, where a run compares several samplers."""
    seed: int | None = None
    """Which team, where a run has several seeds."""
    trust: bool = False
    """Import and run the code that the run names, as MODULE:NAME."""
    json: bool = False
    """Print folders and hashes as JSON."""
