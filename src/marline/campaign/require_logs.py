"""Whether logs are those that a campaign waits for: of its agents, this deployment, and the policies that were sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from marline.campaign.read_logs import Stamp
from marline.data import dataset
from marline.data.channels import Channels
from marline.data.dataset import Dataset
from marline.data.layout import logs_of
from marline.data.summary import episodes
from marline.errors import DataError, require
from marline.runs.events import Event, Exported, of_kind
from marline.runs.lineage import exported_policies
from marline.types import AgentID, RewardScope, Spec


class Ingested(NamedTuple):
    """What became of logs that were brought in.

    Attributes:
        deployment: the one that they are of.
        outcome: "ingested" if the deployment is complete; "waiting" if logs of others, or more, are to come;
            "repeated" if they were all in before, so that nothing was done.
        rows: of each agent that is in.
        waiting_for: agents whose logs, or more of whose logs, are to come.
        waived: agents that the deployment does without: they keep policy and data.
        notes: what is odd or was changed, one sentence each.
    """

    deployment: int
    outcome: str
    rows: Mapping[AgentID, int]
    waiting_for: tuple[AgentID, ...]
    waived: tuple[AgentID, ...]
    notes: tuple[str, ...] = ()


class Awaited(NamedTuple):
    """What is known of the logs of every deployment before they are there.

    Attributes:
        specs: of the whole team, in its order.
        channels: names, units and ranges of each agent's columns, as its offline logs have them.
        rows_per_deployment: the most rows of an agent.
        deployments: how many there will be at most.
        reward_scope: whose the rewards are, as was said of the offline logs.
        rewards_differ: whether those of agents did so in the offline logs.
    """

    specs: Mapping[AgentID, Spec]
    channels: Mapping[AgentID, Channels]
    rows_per_deployment: int
    deployments: int
    reward_scope: RewardScope | None = None
    rewards_differ: bool = False


def require_budget(number: int, awaited: Awaited) -> None:
    """Raise `ConfigError` where deployment `number` is beyond those that were planned."""
    require(
        number <= awaited.deployments,
        f"all {awaited.deployments} deployments are done, as planned; to go on, begin another campaign on logs of "
        "today: marline train LOGS --deployments K --run DIR",
    )


def require_everyone(logs: Mapping[AgentID, Dataset], awaited: Awaited) -> None:
    """Raise `DataError` unless logs are of the whole team."""
    missing = [agent for agent in awaited.specs if agent not in logs]
    if missing:
        wrong = ", ".join(f"{agent!r} is missing" for agent in missing)
        raise DataError(f"logs of the wrong agents: {wrong}; the team is {', '.join(awaited.specs)}")


def require_stamps(stamps: Mapping[AgentID, Stamp], events: Iterable[Event], deployment: int, source: str) -> None:
    """Raise `DataError` unless stamped logs are of the deployment, and of policies that went out for it."""
    events = list(events)
    out = exported_policies(events, deployment)
    for agent, stamp in stamps.items():
        where = logs_of(agent, source)
        if stamp.deployment != deployment:
            raise DataError(
                f"{where} are stamped with deployment {stamp.deployment}, but those of {deployment} are awaited; "
                "bring the logs of the bundles that were exported last"
            )
        if stamp.policy_sha256 not in out.get(agent, ()):
            raise DataError(
                f"{where} are stamped with policy {stamp.policy_sha256[:12]}, which {_history(stamp, agent, events)}; "
                + _expected(agent, out, deployment)
            )


def _history(stamp: Stamp, agent: AgentID, events: Iterable[Event]) -> str:
    """What the ledger knows of a policy that was not awaited."""
    for event, exported in of_kind(Exported, events):
        for other, policy in exported.policies.items():
            if policy == stamp.policy_sha256 and other != agent:
                return f"is that of agent {other!r}"
            if policy == stamp.policy_sha256 and event.deployment == stamp.deployment:
                return "was rolled back since"
            if policy == stamp.policy_sha256:
                return f"went out for deployment {event.deployment}"
    return "never left this run directory"


def _expected(agent: AgentID, out: Mapping[AgentID, set[str]], deployment: int) -> str:
    if agent not in out:
        return f"no bundle of it for deployment {deployment} went out: run marline export first, and deploy that"
    return f"deployment {deployment} runs policy {' or '.join(sorted(name[:12] for name in out[agent]))}"


def require_fitting(logs: Mapping[AgentID, Dataset], awaited: Awaited) -> None:
    """Raise `DataError` unless logs are of agents of the team, of their sizes and scale, and no longer than planned."""
    specs, most = awaited.specs, awaited.rows_per_deployment
    strange = [agent for agent in logs if agent not in specs]
    if strange:
        raise DataError(
            f"logs of the wrong agents: {', '.join(f'{agent[:40]!r} is not of this team' for agent in strange)}; "
            f"the team is {', '.join(specs)}"
        )
    for agent, log in logs.items():
        where = logs_of(agent, log.source)
        if log.spec != specs[agent]:
            raise DataError(f"{where} have {log.spec}, but its offline logs have {specs[agent]}; log the same columns")
        awaited.channels[agent].require_agreement(where, log.channels)
        if len(log) > most:
            raise DataError(
                f"{where} hold {len(log)} rows, but the campaign planned at most {most} per deployment, which cannot "
                "be changed; cut them, best after an episode (each agent learns from its own, so those of others may "
                "stay as they are), or begin another campaign that plans more: marline train LOGS --run DIR "
                f"--rows-per-deployment {len(log)}"
            )


def short_of_an_episode(logs: Mapping[AgentID, Dataset], rows_per_deployment: int) -> tuple[str, ...]:
    """A sentence where less may come back of an agent than an episode of its offline logs, if those have several."""
    lengths = {agent: episodes(log).lengths for agent, log in logs.items()}
    means = {agent: float(its.mean()) for agent, its in lengths.items() if len(its) > 1}
    agent = max(means, key=lambda agent: means[agent], default=None)
    if agent is None or means[agent] <= rows_per_deployment:
        return ()
    return (
        f"at most {rows_per_deployment:,} rows per agent and deployment are planned, but an episode of agent {agent!r} "
        f"has {means[agent]:,.4g} on average: more is refused, and the plan cannot be changed later. Begin another run "
        "with --rows-per-deployment, as many rows as an agent will log before the team is tuned",
    )


def describe(logs: Mapping[AgentID, Dataset], stamps: Mapping[AgentID, Stamp]) -> dict[AgentID, dict[str, Any]]:
    """What is kept of each agent's logs: rows, a hash of them, and the policy that acted, if they tell."""
    return {
        agent: {
            "rows": len(log),
            "rows_sha256": dataset.digest({agent: log}),
            "policy_sha256": stamps[agent].policy_sha256 if agent in stamps else None,
        }
        for agent, log in logs.items()
    }
