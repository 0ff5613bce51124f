"""`marline export`: policies as bundles for the field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marline.cli.commands.opening import open_campaign
from marline.cli.options.study import Export
from marline.display.console import say, say_json
from marline.display.shell import command
from marline.runs.export import Exported
from marline.runs.export import export as export_policies
from marline.runs.integrity import read_configuration
from marline.runs.policies import chosen
from marline.runtime import set_up_jax
from marline.statistics.fitted_q_evaluation import LIMITS, OffPolicyEstimate
from marline.statistics.intervals import Interval
from marline.types import AgentID


def export(options: Export) -> int:
    """`marline export`."""
    set_up_jax()
    if read_configuration(options.run).task is None:
        return _export_campaign(options)
    exported = export_policies(
        options.run,
        options.out,
        deployment=options.deployment,
        agents=options.agent,
        sampler=options.sampler,
        seed=options.seed,
    )
    if options.json:
        say_json(_document(exported))
        return 0
    for agent, bundle in exported.bundles.items():
        say(
            f"{agent}: {exported.folders[agent]}, policy {bundle.policy_sha256[:12]}, "
            f"within {bundle.worst:.1e} of JAX on {bundle.num_checked} logged rows"
        )
    number = exported.deployment - 1
    tuned_on = f"deployments 1 to {number}" if number else "the offline logs"
    is_last = number == read_configuration(options.run).deployments
    say(f"tuned on {tuned_on}" + ("" if is_last else f"; what they log is of deployment {number + 1}"))
    say("  next:   copy each folder to its agent, and there: python run_policy.py LOGS")
    return 0


def _export_campaign(options: Export) -> int:
    """`marline export` of a campaign: the policies to deploy now, or those of an earlier deployment."""
    campaign = open_campaign(options.run)
    chosen(options.seed, (campaign.seed,), "seed")
    chosen(options.sampler, (campaign.sampler_name,), "sampler")
    exported = campaign.export(options.out, options.agent, deployment=options.deployment)
    number, bundles = exported.deployment, exported.bundles
    if options.json:
        say_json(_document(exported))
        return 0
    for agent, bundle in bundles.items():
        tuned_on = bundle.contract["tuned_on_deployment"]
        say(
            f"{agent}: {exported.folders[agent]}, policy {bundle.policy_sha256[:12]} tuned on "
            f"{f'deployment {tuned_on}' if tuned_on else 'the offline logs'}, "
            f"within {bundle.worst:.1e} of JAX on {bundle.num_checked} logged rows"
        )
    if number <= campaign.number:
        say(f"these policies acted in deployment {number}, whose logs are in: none of theirs will be taken")
        say(f"  next: {command('status', options.run)}")
        return 0
    if number == campaign.number + 1 and campaign.logs_are_in:
        say(f"these policies act in deployment {number}, whose logs are in: no others of theirs will be taken")
        say(f"  next: {command('tune', options.run)}")
        return 0
    if number > campaign.config.deployments:
        say(
            f"all deployments are done: these policies (team {exported.team[:12]}) are the last, and none of their "
            "logs will be taken"
        )
        return 0
    estimates = campaign.off_policy_evaluation()
    for line in (*_describe_off_policy(estimates), *_expected_to_earn_less(estimates, options.run, number)):
        say(line)
    say("copy each folder to its agent, and there: python run_policy.py LOGS")
    say(f"waiting for the logs of deployment {number} (team {exported.team[:12]}). It is safe to switch off.")
    say(f"  next: {command('ingest', options.run, 'LOGS')}")
    return 0


def _document(exported: Exported) -> dict[str, Any]:
    """What is printed as JSON: of which deployment the team came out, of which its logs will be, folders and hashes."""
    bundles = {
        agent: {"folder": str(exported.folders[agent]), "policy_sha256": bundle.policy_sha256}
        for agent, bundle in exported.bundles.items()
    }
    number = exported.deployment
    return {
        "tuned_on_deployment": number - 1,
        "logs_of_deployment": number,
        "team": exported.team,
        "bundles": bundles,
    }


def _describe_off_policy(found: Mapping[AgentID, OffPolicyEstimate]) -> list[str]:
    """A line for each agent, and what a value cannot tell where there is one."""
    lines = [
        f"{agent} against the policy before, on the last logs: {_value(its)}actions {its.deviation:.3g} apart, "
        f"{100 * its.unfamiliar:.0f} % unfamiliar (before: {100 * its.unfamiliar_deployed:.0f} %){_no_value(its)}"
        for agent, its in found.items()
    ]
    return lines + [f"limits: {LIMITS}" for _ in lines[:1] if not all(its.no_value for its in found.values())]


def _expected_to_earn_less(found: Mapping[AgentID, OffPolicyEstimate], run: Path, deployment: int) -> list[str]:
    """What can be done about policies for a deployment whose whole interval lies below that of the policy before."""
    lower = [agent for agent, its in found.items() if not its.no_value and its.high < 0]
    if not lower:
        return []
    back = command("rollback", run, "--to", str(deployment - 2), "--agent", *lower)
    who = f"expected to earn less: {', '.join(lower)}"
    return [f"{who}. An estimate is no measurement; to keep the policies before: {back}"]


def _value(its: OffPolicyEstimate) -> str:
    return "" if its.no_value else f"value {its.value_difference:+.3g} {Interval(its.low, its.high)}, "


def _no_value(its: OffPolicyEstimate) -> str:
    return f"; no estimate of its value, because {its.no_value}" if its.no_value else ""
