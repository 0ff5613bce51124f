"""What the commands about campaigns in the real world do; imported only when one of them runs."""

from __future__ import annotations

import itertools
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from marline import envs
from marline.campaign import study
from marline.campaign.campaign import Campaign
from marline.campaign.diverging import sentence
from marline.campaign.foresight import LIMITS, Foresight
from marline.campaign.gates import describe as describe_gate
from marline.campaign.intake import Ingested
from marline.campaign.receiving import read_logs
from marline.campaign.verify import verify as verify_files
from marline.configuration import RunConfig
from marline.console import ProgressDisplay, resumable, say, say_json
from marline.data import dataset
from marline.data.check import check
from marline.data.dataset import Dataset
from marline.data.notes import grouped
from marline.envs import make_task
from marline.errors import DAMAGED, DIVERGED, DivergenceWarning
from marline.evaluation import Interval
from marline.options import read_pairs
from marline.planning import plan_campaign
from marline.runtime import set_up_jax
from marline.shell import command
from marline.types import AgentID

if TYPE_CHECKING:
    from marline import cli, cli_campaign


def train(options: cli_campaign.Train) -> int:
    """`marline train`."""
    set_up_jax()
    if options.logs is None:
        campaign = _open(options.run, strict=options.strict)
    else:
        received = read_logs(options.logs, clip_actions=options.clip_actions)
        for note in grouped([*received.notes, *check(received.logs)]):
            say(f"note: {note}")
        config = configure(options, received.logs)
        campaign = Campaign.start(options.run, received.logs, config, received.source, received.mapping)
    updates = campaign.config.offline_updates
    rows = ", ".join(f"{agent} {num:,}" for agent, num in campaign.offline_rows.items())
    say(f"offline training of {len(campaign.agents)} agents in {options.run}; rows: {rows}")
    with (
        resumable(command("train", "--run", options.run)),
        ProgressDisplay([("updates", updates)]) as display,
        warnings.catch_warnings(action="ignore", category=DivergenceWarning),  # said below
    ):
        shown = 0

        def progress(done: int) -> None:
            nonlocal shown
            display.advance(0, "offline training", done - shown)
            shown = done

        campaign.train(progress)
    say(f"trained: {updates:,} updates of each agent")
    status = _tell_who_diverged(campaign, 0)
    say(f"  next: {command('export', options.run)}")
    return status


def configure(options: cli_campaign.Train, logs: Mapping[AgentID, Dataset]) -> RunConfig:
    """The configuration that the options of `marline train` describe."""
    return plan_campaign(
        logs=logs,
        algorithm=options.algorithm,
        sampler=options.sampler,
        seed=options.seed,
        deployments=options.deployments,
        offline_updates=options.offline_updates,
        updates=options.updates,
        rows_per_deployment=options.rows_per_deployment,
        hidden=options.hidden,
        algorithm_options=read_pairs(options.algorithm_option, "--algorithm-option"),
        sampler_options=read_pairs(options.sampler_option, "--sampler-option"),
    )


def _tell_who_diverged(campaign: Campaign, number: int) -> int:
    """Name those who left the finite numbers at a deployment; the exit status that belongs to it."""
    found = [stop for stop in campaign.diverged if stop.deployment == number]
    for stop in found:
        print(f"marline: {sentence(stop, campaign.folder)}", file=sys.stderr)
    return DIVERGED if found else 0


def export(options: cli.Export) -> int:
    """`marline export` of a campaign: the policies to deploy now."""
    from marline.campaign.teams import chosen

    campaign = _open(options.run)
    chosen(options.seed, (campaign.seed,), "seed")
    chosen(options.sampler, (campaign.sampler_name,), "sampler")
    exported = campaign.export(options.out, options.agent)
    number, bundles = exported.deployment, exported.bundles
    if options.json:
        found = {
            agent: {"folder": str(exported.folders[agent]), "policy_sha256": bundle.policy_sha256}
            for agent, bundle in bundles.items()
        }
        say_json({"logs_of_deployment": number, "team": exported.team, "bundles": found})
        return 0
    for agent, bundle in bundles.items():
        tuned_on = bundle.contract["tuned_on_deployment"]
        say(
            f"{agent}: {exported.folders[agent]}, policy {bundle.policy_sha256[:12]} tuned on "
            f"{f'deployment {tuned_on}' if tuned_on else 'the offline logs'}, "
            f"within {bundle.worst:.1e} of JAX on {bundle.num_checked} logged rows"
        )
    if number > _open(options.run).config.deployments:
        say(
            f"all deployments are done: these policies (team {exported.team[:12]}) are the last, and none of their logs"
        )
        say("will be taken")
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


def _interval(low: float, high: float) -> str:
    return f"[{low:+.3g}, {high:+.3g}]" if math.isfinite(low) else "[too few episodes]"


def ingest(options: cli_campaign.Ingest) -> int:
    """`marline ingest`."""
    set_up_jax()
    flags = {
        "--allow-missing": options.allow_missing,
        "--unstamped": options.unstamped,
        "--replace": options.replace,
        "--clip-actions": options.clip_actions,
        "--more": options.more,
    }
    bundles = () if options.policy_of is None else ("--policy-of", options.policy_of)
    logs = () if options.logs is None else (options.logs,)
    with resumable(command("ingest", options.run, *logs, *(flag for flag, given in flags.items() if given), *bundles)):
        campaign = _open(options.run)
        found = campaign.ingest(
            options.logs,
            allow_missing=options.allow_missing,
            unstamped=options.unstamped,
            replace=options.replace,
            clip_actions=options.clip_actions,
            more=options.more,
            policy_of=options.policy_of,
        )
    if options.json:
        say_json(found._asdict())
        return 0
    for note in grouped(found.notes):
        say(f"note: {note}")
    gate = [event for event in campaign.ledger.events("gated") if event.deployment == found.deployment]
    lines = describe_gate(gate[-1].body, options.run) if gate and found.outcome == "ingested" else []
    first, *others = _describe(found, options.run)
    for line in (first, *lines, *others):
        say(line)
    return 0


def _describe(found: Ingested, run: Path) -> list[str]:
    rows = ", ".join(f"{agent} {num_rows:,}" for agent, num_rows in found.rows.items())
    if found.outcome == "waiting":
        absent = [agent for agent in found.waiting_for if agent not in found.rows]
        parts = [agent for agent in found.waiting_for if agent in found.rows]
        arrived, team = len(found.rows) - len(parts), len(found.rows) + len(absent)
        awaited = f"no logs of {', '.join(absent)} yet" if absent else ""
        awaited += f"{', ' if absent else ''}more of {', '.join(parts)} to come" if parts else ""
        return [
            f"deployment {found.deployment}: WAITING {arrived}/{team}, {awaited}; rows: {rows}",
            "nothing is merged before all are in",
            f"  next: {command('ingest', run, 'LOGS')}",
            f"        {command('ingest', run, '--allow-missing')} to go on without",
        ]
    if found.outcome == "repeated":
        return [
            f"nothing to do: these logs of deployment {found.deployment} are in already",
            f"  next: {command('status', run)}",
        ]
    waived = f"; without {', '.join(found.waived)}, who keep policy and data" if found.waived else ""
    return [f"logs of deployment {found.deployment} are in; rows: {rows}{waived}", f"  next: {command('tune', run)}"]


def tune(options: cli_campaign.Tune) -> int:
    """`marline tune`."""
    set_up_jax()
    campaign = _open(options.run, strict=options.strict)
    with (
        resumable(
            command("tune", options.run, *_several("--agent", options.agent), *_several("--freeze", options.freeze))
        ),
        warnings.catch_warnings(action="ignore", category=DivergenceWarning),  # said below
    ):
        say(f"tuning on deployment {campaign.number + 1}", quiet=options.json)
        record = campaign.tune(agents=options.agent, freeze=options.freeze)
    number = record["deployment"]
    status = _tell_who_diverged(campaign, number)
    if options.json:
        say_json({**record, "returns": campaign.returns})
        return status
    say(f"the team that was out in deployment {number} returned {campaign.returns[-1]:.4g} per episode")
    for agent, measured in record["agents"].items():
        online = measured.get("share_current", math.nan) + measured.get("share_earlier", math.nan)
        parts = [
            f"{name} {measured[key]:.3g}"
            for key, name in (("alpha", "alpha"), ("estimated_distance", "distance"))
            if key in measured
        ]
        parts += [f"online share {100 * online:.0f} %"] if math.isfinite(online) else []
        parts += ["frozen: keeps its policy"] if agent in record.get("frozen", ()) else []
        parts += ["DIVERGED: keeps its policy"] if agent in record.get("diverged", ()) else []
        say(f"{agent}: {', '.join(parts)}")
    for agent in record.get("waived", ()):
        say(f"{agent}: no logs, keeps policy and data")
    if number == campaign.config.deployments:
        say(f"all {number} deployments are done")
        say(f"  next: {command('report', options.run)}")
    else:
        say(f"  next: {command('export', options.run)}")
    return status


def _several(flag: str, values: Sequence[str]) -> tuple[str, ...]:
    return (flag, *values) if values else ()


def rollback(options: cli_campaign.Rollback) -> int:
    """`marline rollback`."""
    set_up_jax()
    event = _open(options.run).rollback(options.to, options.agent)
    what = f"after deployment {options.to}" if options.to else "after offline training"
    say(f"{', '.join(event.body['agents'])}: back to the policies {what}; what was logged since stays")
    say(f"  next: {command('export', options.run)}")
    return 0


def verify(options: cli_campaign.Verify) -> int:
    """`marline verify`."""
    set_up_jax()
    found = verify_files(options.run)
    for note in grouped(found.notes):
        print(f"note: {note}", file=sys.stderr)
    for problem in found.problems:
        print(f"marline: {problem}", file=sys.stderr)
    say(f"{found.num_files} files and {found.num_events} events checked, {len(found.problems)} problems")
    if found.problems:
        return DAMAGED
    config = RunConfig.read(options.run / "run.json")
    if config.task is not None:
        status = _replay_study(options, config) if options.replay else 0
        say(f"  next: {command('report', options.run)}")
        return status
    if options.replay:
        campaign = _open(options.run)
        what = f"deployment {campaign.number}" if campaign.number else "the offline training"
        say(f"training {what} again")
        same = campaign.replay()
        for agent, is_same in same.items():
            say(f"{agent}: {'the same bytes' if is_same else 'OTHER BYTES than in the run'}")
        if not all(same.values()):
            versions = campaign.versions
            print(
                f"marline: training {what} again gives another result. It was done with {versions}; another version, "
                "processor or accelerator rounds differently, and nothing else should",
                file=sys.stderr,
            )
            return DAMAGED
    say(f"  next: {command('status', options.run)}")
    return 0


def _replay_study(options: cli_campaign.Verify, config: RunConfig) -> int:
    """Compute again what every part of a study computed last."""
    assert config.task is not None
    if options.trust:
        envs.trust(config.task)
    make_task(config.task)  # which refuses code that nobody said to trust
    data, status = dataset.load(options.run / "data"), 0
    for seed, sampler in itertools.product(config.seeds, (None, *config.samplers)):
        part = f"seed {seed}, {sampler or 'offline training'}"
        same = study.replay(options.run, config, data, seed, sampler)
        if not same:
            say(f"{part}: nothing to compute again yet")
        for agent, is_same in same.items():
            say(f"{part}, {agent}: {'the same bytes' if is_same else 'OTHER BYTES than in the run'}")
        if not all(same.values()):
            status = DAMAGED
    if status:
        print(
            f"marline: computing parts of {options.run} again gives another result. Another version, processor or "
            "accelerator rounds differently, and nothing else should",
            file=sys.stderr,
        )
    return status


def _open(folder: Path, *, strict: bool = False) -> Campaign:
    campaign = Campaign.open(folder, strict=strict)
    for note in campaign.notes:
        print(f"note: {note}", file=sys.stderr)
    return campaign
