"""What lies where in a run directory: the one place that names its files and folders.

Imports no JAX, for `marline status` answers at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

from marline.data.files import LARGEST_CONFIGURATION, read_regular
from marline.data.plain import require_plain_folder
from marline.errors import CorruptionError, require

OFFLINE = "offline"  # the team that all others of a seed begin with
METRICS, TRAJECTORIES = "metrics.jsonl", "trajectories.json"  # of a team
LOGS, WAITING, POLICIES, LEARNERS = "logs", "waiting", "policies", "learners"  # of a deployment
DATASET = "dataset.json"  # in every folder with logs: where it is, they are whole
BUNDLES, DIVERGED = "bundles", "diverged"  # of a deployment, or of the offline team
# what marline reads and writes in a run directory; whatever else its user keeps there is none of our business
OWN = ("run.json", "run.lock", "run.pid", "ledger.*", "provenance.jsonl", "report.html", "data", "seed-*")

_CHECKPOINT = re.compile(r"checkpoint-([0-9]{7,})")  # padded to seven digits; there may be more
_DEPLOYMENT = re.compile(r"deployment-([0-9]{2,9})")  # padded to two digits
_SEED = "seed-"


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A folder with a study or a campaign in it.

    run.json               the resolved configuration
    data/                  the offline logs, shared by all seeds
    seed-0/offline/        the offline team, common start of every sampler of the seed
    seed-0/uniform/        a team per sampler
    report.html
    """

    folder: Path

    @property
    def configuration(self) -> Path:
        return self.folder / "run.json"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def data_list(self) -> Path:
        """The file that vouches for the offline logs."""
        return self.data / DATASET

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def seed(self, seed: int | str) -> Path:
        """The folder of all teams of a seed."""
        return self.folder / f"{_SEED}{seed}"

    def team(self, seed: int | str, name: str | None = None) -> Path:
        """The folder of the team that one sampler trains; None is the offline team."""
        return self.seed(seed) / (name or OFFLINE)

    def teams(self) -> list[Path]:
        """Everything that lies where teams do, by name."""
        return sorted(self.folder.glob(f"{_SEED}*/*"))


def require_plain_run(folder: Path, *, known: Collection[Path] = ()) -> None:
    """Raise `CorruptionError`, naming it, if anything of ours in a run directory is no plain file or folder.

    Folders that are `known` were looked through before, and are not again.
    """
    require_plain_folder(folder, OWN, known=known)


def require_run(folder: Path) -> Path:
    """The configuration file of a run directory.

    Raises:
        ConfigError: the folder is none.
        CorruptionError: a link, a pipe or a device is in it.
    """
    if folder.is_dir():
        require_plain_run(folder)
    path = RunDirectory(folder).configuration
    require(
        path.is_file(),
        f"{folder} is not a run directory: it has no run.json; start one with: marline train, or marline run",
    )
    return path


def checkpoint_folder(team: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in the folder of a team."""
    return team / f"checkpoint-{step:07d}"


def checkpoint_steps(team: Path) -> list[int]:
    """Steps of the checkpoints in the folder of a team, ascending."""
    return _numbers(team, _CHECKPOINT, checkpoint_folder)


def deployment_folder(team: Path, number: int) -> Path:
    """Where what a deployment brought, and what came out of it, lies in the folder of a team."""
    return team / f"deployment-{number:02d}"


def deployment_numbers(team: Path) -> list[int]:
    """Numbers of the deployments in the folder of a team, ascending."""
    return _numbers(team, _DEPLOYMENT, deployment_folder)


def contracts(home: Path) -> list[Path]:
    """What describes each bundle that was exported beside the policies in a folder."""
    return sorted((home / BUNDLES).glob("[!.]*/contract.json"))


def divergences(home: Path) -> list[Path]:
    """The folders of batches with which agents left the finite numbers."""
    return sorted((home / DIVERGED).glob("[!.]*"))


def _numbers(team: Path, pattern: re.Pattern[str], place: Callable[[Path, int], Path]) -> list[int]:
    names = os.listdir(team) if team.is_dir() else []
    found = {name: int(match[1]) for name in names if (match := pattern.fullmatch(name))}
    return sorted(number for name, number in found.items() if name == place(team, number).name)


def configuration_sha256(path: Path) -> str:
    """SHA-256 of a configuration file, in hexadecimal; `CorruptionError` where there is none, or no plain one."""
    return hashlib.sha256(read_regular(path, LARGEST_CONFIGURATION)).hexdigest()


def known_places(path: Path) -> set[str]:
    """Where the teams that a configuration file names lie in its run directory, as "seed-0/offline".

    Raises:
        CorruptionError: there is none, or no plain one, or it names none.
    """
    try:
        document = json.loads(read_regular(path, LARGEST_CONFIGURATION))
        return {f"{_SEED}{seed}/{name}" for seed in document["seeds"] for name in (OFFLINE, *document["samplers"])}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise CorruptionError(f"{path} is not the configuration of a run; restore a copy") from error


def decisive_sha256(path: Path, sampler: str | None = None) -> str:
    """SHA-256 of what in a configuration file decides the numbers of one team, in hexadecimal.

    That is all but the seeds and the other samplers, which a run may gain later.

    Args:
        path: the file.
        sampler: of the team; None is the offline team.

    Raises:
        CorruptionError: there is none, or no plain one, or it is no JSON object.
    """
    try:
        document = json.loads(read_regular(path, LARGEST_CONFIGURATION))
        samplers = document.pop("samplers")
        document.pop("seeds")
        document["sampler"] = samplers.get(sampler)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptionError(f"{path} is not the configuration of a run; restore a copy") from error
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
