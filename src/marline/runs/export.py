"""Policies of a run directory, as bundles for the field."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from marline.configuration.run_config import RunConfig
from marline.data import dataset
from marline.data.hdf5 import read_arrays
from marline.data.manifest import require_intact
from marline.errors import require_name
from marline.export.bundle import CHECKED_ROWS, Bundle, Experienced, make_bundle, require_place, write_bundle
from marline.runs.history import History, list_sha256
from marline.runs.integrity import read_configuration, require_belonging
from marline.runs.layout import BUNDLES, POLICIES, RunDirectory, decisive_sha256
from marline.runs.policies import chosen, read_policies
from marline.tuning import algorithm_of
from marline.types import AgentID, Policy


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """The bundles of one team.

    Attributes:
        deployment: the one in which they will act; their policies were tuned on those before it.
        folder: where there is a bundle in a folder of its own for each agent.
        bundles: by agent.
    """

    deployment: int
    folder: Path
    bundles: Mapping[AgentID, Bundle]

    @property
    def folders(self) -> dict[AgentID, Path]:
        """The bundle of each agent on disk."""
        return {agent: self.folder / agent for agent in self.bundles}

    @property
    def team(self) -> str:
        """A hash of all policies: two teams are the same if theirs are."""
        return team_hash({agent: bundle.policy_sha256 for agent, bundle in self.bundles.items()})

    def require_places(self) -> None:
        """Raise `ConfigError` unless every bundle may be written, before any is."""
        for folder in self.folders.values():
            require_place(folder)

    def write(self) -> None:
        """Write every bundle; each appears as a whole or not at all."""
        self.require_places()
        for agent, bundle in self.bundles.items():
            write_bundle(self.folder / agent, bundle)


def team_hash(policies: Mapping[AgentID, str]) -> str:
    """One hash for the policies of a team, from the hash of each."""
    return hashlib.sha256("\n".join(f"{agent} {policies[agent]}" for agent in sorted(policies)).encode()).hexdigest()


def export(
    folder: Path,
    out: Path | None = None,
    *,
    deployment: int | None = None,
    agents: Collection[AgentID] = (),
    sampler: str | None = None,
    seed: int | None = None,
) -> Exported:
    """Write one bundle per agent; what a run directory holds is only read, so the run may go on meanwhile.

    Args:
        folder: the run directory.
        out: gets one folder per agent; `bundles` beside the policies in the run directory if None.
        deployment: the last one that the policies were tuned on, 0 for the offline policies; the
            last there is if None.
        agents: whose bundles; everyone's if empty.
        sampler: which team of a study that compares several.
        seed: the same.

    Raises:
        ConfigError: there is no such policy, or it cannot be exported; nothing is written.
        CorruptionError: a file of the run directory is altered or missing; nothing is written.
        MarlineError: a translated policy acts otherwise than the original; nothing is written.
        StorageError: the disk is full or the folder may not be written.
    """
    config = read_configuration(folder)
    path = folder / "run.json"
    require_belonging(folder)
    of_seed: int = chosen(seed, config.seeds, "seed")
    if deployment != 0:
        sampler = chosen(sampler, tuple(config.samplers), "sampler")
    run = RunDirectory(folder)
    for agent in agents:
        require_name(agent, dataset.outline(run.data), "agent")
    number, home, policies = read_policies(run, config, of_seed, sampler, deployment, agents)
    source = home / POLICIES if number else History(home).checkpoint(config.offline_updates)
    made_from = {
        "run.json": decisive_sha256(path, sampler if number else None),
        "policies": {"folder": str(source.relative_to(folder)), "sha256": list_sha256(source)},
    }
    exported = bundle_team(
        folder,
        config,
        policies,
        tuned_on=dict.fromkeys(policies, number),
        logs_of=number + 1,
        provenance={
            "task": config.task,
            "seed": of_seed,
            "sampler": sampler if number else None,
            "made_from": made_from,
        },
        out=home / BUNDLES if out is None else out,
    )
    exported.write()
    return exported


def bundle_team(
    folder: Path,
    config: RunConfig,
    policies: Mapping[AgentID, Policy],
    *,
    tuned_on: Mapping[AgentID, int],
    logs_of: int,
    provenance: Mapping[str, object],
    out: Path,
) -> Exported:
    """Translate and check policies; nothing is written yet.

    Args:
        folder: the run directory, whose offline logs they are checked on.
        config: of the run.
        policies: by agent.
        tuned_on: the last deployment that each was tuned on.
        logs_of: the deployment in which they will act.
        provenance: entries of every contract.
        out: what will hold a folder per agent.
    """
    data = RunDirectory(folder).data
    sizes, channels = dataset.outline(data), dataset.channels_of(data)
    bundles = {
        agent: make_bundle(
            agent,
            policy,
            sizes[agent][0],
            _experienced(data, agent),
            tuned_on=tuned_on[agent],
            logs_of=logs_of,
            provenance={**provenance, "algorithm": type(algorithm_of(config.algorithm, agent)).__name__},
            channels=channels[agent],
        )
        for agent, policy in policies.items()
    }
    return Exported(logs_of, out, bundles)


def _experienced(folder: Path, agent: AgentID) -> Experienced:
    """What an agent saw in its offline logs; others' are not read."""
    file = folder / f"{agent}.h5"
    require_intact(file, dataset.describe(folder)["files"][file.name])
    arrays = read_arrays(file, ["observations"], ["action_masks"])
    observations, masks = arrays["observations"], arrays.get("action_masks")
    rows = np.linspace(0, len(observations) - 1, min(len(observations), CHECKED_ROWS)).astype(int)
    return Experienced(
        observations=observations[rows],
        action_masks=None if masks is None else masks[rows].astype(bool),
        low=observations.min(axis=0),
        high=observations.max(axis=0),
    )
