"""Policies that leave a campaign, as bundles for robots without JAX; the ledger knows of each before it is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from marline.campaign.state import CampaignState
from marline.errors import require
from marline.runs.divergences import stops
from marline.runs.events import Exported
from marline.runs.layout import BUNDLES
from marline.runs.lineage import exported_policies
from marline.runs.policies import read_policies
from marline.types import AgentID, Policy

if TYPE_CHECKING:
    from marline.runs.export import Exported as Bundles
    from marline.runs.lineage import Lineage


def export(state: CampaignState, out: Path | None, agents: Collection[AgentID], deployment: int | None) -> Bundles:
    """See `Campaign.export`."""
    from marline.runs.export import bundle_team  # ONNX, which only an export needs

    state.require_agents(agents)
    number, policies, tuned_on = _deployable(state, deployment)
    chosen = {agent: policy for agent, policy in policies.items() if not agents or agent in agents}
    require_learned(state, chosen)
    home = state.history.deployment(number) if number else state.offline.folder
    exported = bundle_team(
        state.folder,
        state.config,
        chosen,
        tuned_on=tuned_on,
        logs_of=number + 1,
        provenance={"task": state.config.task, "seed": state.seed, "sampler": state.sampler},
        out=home / BUNDLES if out is None else out,
    )
    gone = Exported(
        policies={agent: bundle.policy_sha256 for agent, bundle in exported.bundles.items()},
        tuned_on={agent: tuned_on[agent] for agent in exported.bundles},
        folder=str(exported.folder),
    )
    exported.require_places()
    with state.writing():
        # before the bundles: none may be out there that the ledger does not know
        known = exported_policies(state.ledger.events(), exported.deployment)  # without those withdrawn since
        are_out = all(policy in known.get(agent, ()) for agent, policy in gone.policies.items())
        if not are_out or gone not in state.told(Exported, exported.deployment):
            state.ledger.append(exported.deployment, gone)
        exported.write()
    return exported


def require_learned(state: CampaignState, agents: Collection[AgentID]) -> None:
    """Raise `ConfigError` for who diverged offline before a first checkpoint and was not tuned since."""
    tuned_on = state.lineage[-1]
    for stop in stops(state.records):
        require(
            stop.agent not in agents or stop.deployment > 0 or stop.kept > 0 or tuned_on[stop.agent] > 0,
            f"agent {stop.agent!r} diverged before it had learned anything, so there is no policy of it to deploy: "
            "train another run with a lower learning_rate, or export the others with --agent, and ingest their "
            "logs with --allow-missing",
        )


def _deployable(state: CampaignState, deployment: int | None) -> tuple[int, Mapping[AgentID, Policy], Lineage]:
    """The deployment that a team came out of, its policies, and the last deployment that each was tuned on."""
    if deployment is None:
        return state.number, state.policies, state.lineage[-1]
    state.trained()
    state.require_reached(deployment)
    past = state.lineage
    if deployment == state.number:
        require(
            past[-2] == past[-1],
            f"agents of the team in {state.folder} were rolled back since deployment {deployment}; what it deploys "
            "now is exported without --deployment",
        )
        return deployment, state.policies, past[-1]
    _, _, policies = read_policies(state.driver.run, state.config, state.seed, state.sampler, deployment)
    return deployment, policies, past[deployment]
