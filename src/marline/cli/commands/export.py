"""`marline export`: policies as bundles for the field."""

from __future__ import annotations

from collections.abc import Mapping

from marline.campaign.off_policy_evaluation import LIMITS, Foresight
from marline.cli.commands.opening import open_campaign
from marline.cli.options.study import Export
from marline.configuration.run_config import RunConfig
from marline.display.console import say, say_json
from marline.display.shell import command
from marline.runs.export import export as export_policies
from marline.runs.layout import require_run
from marline.runs.policies import chosen
from marline.runtime import set_up_jax
from marline.statistics.intervals import Interval
from marline.types import AgentID


def export(options: Export) -> int:
    """`marline export`."""
    set_up_jax()
    if RunConfig.read(require_run(options.run)).task is None:
        return _export_campaign(options)
    exported = export_policies(
        options.run,
        options.out,
        deployment=options.deployment,
        agents=options.agent,
        sampler=options.sampler,
        seed=options.seed,
    )
    folders = {agent: exported.folder / agent for agent in exported.bundles}
    if options.json:
        bundles = {
            agent: {"folder": str(folders[agent]), "policy_sha256": bundle.policy_sha256}
            for agent, bundle in exported.bundles.items()
        }
        say_json({"tuned_on_deployment": exported.deployment - 1, "bundles": bundles})
        return 0
    for agent, bundle in exported.bundles.items():
        say(
            f"{agent}: {folders[agent]}, policy {bundle.policy_sha256[:12]}, "
            f"within {bundle.worst:.1e} of JAX on {bundle.num_checked} logged rows"
        )
    number = exported.deployment - 1
    tuned_on = f"deployments 1 to {number}" if number else "the offline logs"
    say(f"tuned on {tuned_on}; what they log is of deployment {number + 1}")
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
        found = {
            agent: {"folder": str(exported.folders[agent]), "policy_sha256": bundle.policy_sha256}
            for agent, bundle in bundles.items()
        }
        earlier = {} if options.deployment is None else {"tuned_on_deployment": options.deployment}
        say_json({"logs_of_deployment": number, **earlier, "team": exported.team, "bundles": found})
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
    if number > campaign.config.deployments:
        say(
            f"all deployments are done: these policies (team {exported.team[:12]}) are the last, and none of their "
            "logs will be taken"
        )
        return 0
    for line in _describe_foresight(campaign.foresee()):
        say(line)
    say("copy each folder to its agent, and there: python run_policy.py LOGS")
    say(f"waiting for the logs of deployment {number} (team {exported.team[:12]}). It is safe to switch off.")
    say(f"  next: {command('ingest', options.run, 'LOGS')}")
    return 0


def _describe_foresight(found: Mapping[AgentID, Foresight]) -> list[str]:
    lines = [
        f"{agent} against the policy before, on the last logs: value {its.value_difference:+.3g} "
        f"{Interval(its.low, its.high)}, actions {its.deviation:.3g} apart, "
        f"{100 * its.unfamiliar:.0f} % unfamiliar (before: {100 * its.unfamiliar_deployed:.0f} %)"
        for agent, its in found.items()
    ]
    return [*lines, f"limits: {LIMITS}"] if lines else []
