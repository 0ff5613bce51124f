"""Where measurements can be logged: TensorBoard, Weights & Biases, MLflow. Nothing leaves the machine unless told to.

Each is written to by a process of its own, see `follow`, so that none can hold up a training or bring it down.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from marline.data.manifest import require_file_name
from marline.data.plain import require_plain_path
from marline.errors import ConfigError, CorruptionError, require_name
from marline.report.records import Run
from marline.report.tables import DIAGNOSTICS
from marline.report.tensorboard import FILE, FORMAT, require_tensorboard
from marline.runs.layout import RunDirectory, decisive_sha256

FOLDER = Path("tensorboard")  # as W&B has `wandb`, and MLflow `mlflow.db`: where the command was called
PROJECT = "marline"
NOT_A_NAME = re.compile(r"[^\w\-. /:]")  # in MLflow's names of metrics


class Team(NamedTuple):
    """Whose measurements are logged: a run of a tracker each."""

    run: Run
    sampler: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.sampler}, seed {self.seed}"

    @property
    def identity(self) -> str:
        """The same for the same team of the same run directory, however often the run goes on."""
        decisive = decisive_sha256(RunDirectory(self.run.path).configuration, self.sampler)
        text = f"{self.run.path.resolve()} {decisive} {self.seed}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers of this team."""
        settings = {name: value for name, value in self.run.settings.items() if name not in ("samplers", "seeds")}
        return {**settings, "sampler": self.run.settings["samplers"][self.sampler], "seed": self.seed}

    def measurements(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Deployment by deployment what is finite: of the team under its name, of agents as `quantity/agent`."""
        lines = self.run.lines.get((self.sampler, self.seed), {})
        of_team = {name: self.run.curve(self.sampler, self.seed, name) for name in ("return", "return_in_last_world")}
        of_agents = {name: self.run.diagnostic(self.sampler, self.seed, name) for name in DIAGNOSTICS}
        for deployment in sorted(lines):
            values = {name: curve[deployment] for name, curve in of_team.items() if deployment in curve}
            for name, curve in of_agents.items():
                values |= {f"{name}/{agent}": value for agent, value in curve.get(deployment, {}).items()}
            yield deployment, {name: value for name, value in values.items() if math.isfinite(value)}


@runtime_checkable
class Tracker(Protocol):
    """What logs; the deployments of a team come in order."""

    def log(self, team: Team, deployment: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """A file of events per team, below ./tensorboard; begun anew when a run goes on, so that nothing is there twice."""

    def __init__(self) -> None:
        self._event, self._summary, self._writer = require_tensorboard()
        self._files: dict[str, Any] = {}

    def log(self, team: Team, deployment: int, values: Mapping[str, float]) -> None:
        file = self._files.get(team.name) or self._begin(team)
        told = [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(file, step=deployment, wall_time=time.time(), summary=self._summary(value=told))

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _begin(self, team: Team) -> Any:
        require_file_name(team.sampler, f"{RunDirectory(team.run.path).configuration}: sampler", CorruptionError)
        path = FOLDER / team.run.path.resolve().name / team.sampler / f"seed-{team.seed}" / FILE
        require_plain_path(FOLDER, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files[team.name] = file = self._writer(str(path))
        self._write(file, file_version=FORMAT, wall_time=time.time())
        return file

    def _write(self, file: Any, **event: Any) -> None:
        file.write(self._event(**event).SerializeToString())
        file.flush()


class WeightsAndBiases:
    """A run of W&B per team, grouped by run directory: offline below ./wandb, unless WANDB_MODE says otherwise."""

    def __init__(self) -> None:
        defaults = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
        for name, value in defaults.items():
            os.environ.setdefault(name, value)
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb: Any = wandb
        self._runs: dict[str, Any] = {}

    def log(self, team: Team, deployment: int, values: Mapping[str, float]) -> None:
        run = self._runs.get(team.name) or self._begin(team)
        if deployment >= run.starting_step:  # what is there already would be refused, with a warning
            run.log(dict(values), step=deployment)
        if deployment == team.run.num_deployments:
            self._runs.pop(team.name).finish()

    def close(self) -> None:
        for run in self._runs.values():
            run.finish()

    def _begin(self, team: Team) -> Any:
        self._runs[team.name] = run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=team.run.path.resolve().name,
            name=team.name,
            id=team.identity,
            config=team.settings,
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(console="off"),
        )
        return run


class MLflow:
    """A run of MLflow per team, in the experiment `marline`: in ./mlflow.db, unless MLFLOW_TRACKING_URI is set."""

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{Path('mlflow.db').resolve()}")
        import mlflow  # pyright: ignore[reportMissingImports]

        self._mlflow: Any = mlflow
        self._client: Any = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        self._experiment: str = self._client.create_experiment(name) if found is None else found.experiment_id
        self._runs: dict[str, tuple[str, set[int]]] = {}  # the run of a team, and the deployments that it has

    def log(self, team: Team, deployment: int, values: Mapping[str, float]) -> None:
        run, done = self._runs.get(team.name) or self._begin(team)
        if deployment not in done:
            now = int(time.time() * 1000)
            metric = self._mlflow.entities.Metric
            told = [metric(NOT_A_NAME.sub("_", name), value, now, deployment) for name, value in values.items()]
            self._client.log_batch(run, metrics=[*told, metric("deployment", deployment, now, deployment)])
            done.add(deployment)

    def close(self) -> None:
        for run, _ in self._runs.values():
            self._client.set_terminated(run)

    def _begin(self, team: Team) -> tuple[str, set[int]]:
        tags = {"marline.team": team.identity, "marline.run": str(team.run.path.resolve()), "mlflow.runName": team.name}
        found = self._client.search_runs([self._experiment], f"tags.`marline.team` = '{team.identity}'", max_results=1)
        if found:
            run = found[0].info.run_id
            done = {metric.step for metric in self._client.get_metric_history(run, "deployment")}
        else:
            run, done = self._client.create_run(self._experiment, tags=tags).info.run_id, set[int]()
            for name, value in team.settings.items():
                self._client.log_param(run, name, str(value)[:500])
        self._runs[team.name] = run, done
        return run, done


class Kind(NamedTuple):
    """What makes a tracker, the package that it needs, and the command that shows what was logged."""

    make: Callable[[], Tracker]
    package: str
    look: str


TRACKERS: Mapping[str, Kind] = {
    "tensorboard": Kind(TensorBoard, "tensorboardX", f"tensorboard --logdir {FOLDER}"),
    "wandb": Kind(WeightsAndBiases, "wandb", "wandb sync wandb/offline-run-*"),
    "mlflow": Kind(MLflow, "mlflow", "mlflow ui --backend-store-uri sqlite:///mlflow.db"),
}


def require_trackers(names: Sequence[str]) -> None:
    """`ConfigError` unless these are known and what they need is installed."""
    for name in names:
        require_name(name, TRACKERS, "tracker")
        package = TRACKERS[name].package
        found = importlib.util.find_spec(package)
        if (
            found is None or found.origin is None
        ):  # a folder of that name, such as the one that W&B writes, is no package
            raise ConfigError(f"--log {name} needs {package}, which is not there: pip install 'marline[{name}]'")
