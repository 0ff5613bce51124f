"""`marline train, ingest, tune, rollback`: a team in the real world."""

from __future__ import annotations

import dataclasses
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marline.campaign.campaign import Campaign
from marline.campaign.regression import describe as describe_gate
from marline.campaign.require_logs import Ingested
from marline.cli.commands.opening import noted, open_campaign, read_unmapped
from marline.cli.commands.report import say_where
from marline.cli.options.campaign import Ingest, Rollback, Train, Tune
from marline.configuration.planning import plan_campaign
from marline.configuration.run_config import RunConfig
from marline.data.check import check
from marline.data.dataset import Dataset, load
from marline.data.notes import grouped
from marline.display.console import ProgressDisplay, resumable, say, say_json
from marline.display.shell import command
from marline.display.words import logs_to_come
from marline.errors import DIVERGED, DivergenceWarning, require
from marline.inputs.options import read_pairs
from marline.report.trackers import require_trackers
from marline.report.tracking import tracked
from marline.runs.creation import plan_run
from marline.runs.divergences import sentence
from marline.runs.events import Gated, RolledBack, of_kind
from marline.runs.layout import RunDirectory
from marline.runtime import set_up_jax
from marline.samplers import SAMPLERS
from marline.types import AgentID


def train(options: Train) -> int:
    """`marline train`."""
    require_trackers(options.log)
    set_up_jax()
    if options.logs is None:
        require(not options.clip_actions, "--clip-actions is for LOGS, which the run has already; leave it out")
        campaign = open_campaign(options.run, strict=options.strict)
        _require_same(options, campaign)
    else:
        following = command("data", "import", options.logs, "--mapping", "FILE", "--out", "logs")
        received = read_unmapped(options.logs, following, clip_actions=options.clip_actions)
        notes = grouped([*received.notes, *check(received.logs)])
        config = configure(options, received.logs)
        campaign = noted(Campaign.start(options.run, received.logs, config, received.source, received.mapping))
        for note in notes:  # only now, or they would stand between an option and what is wrong with it
            say(f"note: {note}")
    updates = campaign.config.offline_updates
    rows = ", ".join(f"{agent} {num:,}" for agent, num in campaign.offline_rows.items())
    say(f"offline training of {len(campaign.agents)} agents in {options.run}; rows: {rows}")
    most = campaign.config.rows_per_deployment
    say(f"planned to come back: at most {most:,} rows per agent and deployment (--rows-per-deployment)")
    with (
        resumable(command("train", "--run", options.run)),
        ProgressDisplay([("updates", updates)]) as display,
        warnings.catch_warnings(action="ignore", category=DivergenceWarning),  # said below
        tracked(options.run, options.log),
    ):
        shown = 0

        def progress(done: int) -> None:
            nonlocal shown
            display.advance(0, "offline training", done - shown)
            shown = done

        campaign.train(progress)
    say(f"trained: {updates:,} updates of each agent")
    status = _tell_who_diverged(campaign, 0)
    say_where(options.log)
    say(f"  next: {command('export', options.run)}")
    return status


def configure(options: Train, logs: Mapping[AgentID, Dataset]) -> RunConfig:
    """The configuration that the options of `marline train` describe."""
    return plan_campaign(
        logs=logs,
        hidden=options.hidden,
        algorithm_options=read_pairs(options.algorithm_option, "--algorithm-option"),
        sampler_options=read_pairs(options.sampler_option, "--sampler-option"),
        **_given(options),
    )


def _given(options: Train) -> dict[str, Any]:
    """The options that `plan_campaign` takes as they are, of those that were given."""
    names = ("algorithm", "sampler", "seed", "deployments", "offline_updates", "updates", "rows_per_deployment")
    return {name: value for name in names if (value := getattr(options, name)) not in (None, ())}


def _require_same(options: Train, campaign: Campaign) -> None:
    """Raise `ConfigError` where options were given that are not those of the run."""
    of_parts, given = (options.hidden, options.algorithm_option, options.sampler_option), _given(options)
    if not any(of_parts) and not given:
        return
    there = campaign.config
    ((name, sampler),), (seed,) = there.samplers.items(), there.seeds
    if options.sampler_option and options.sampler is None:
        require(name in SAMPLERS, f"--sampler-option: say --sampler, too, or leave both out; the run has {name}")
        sampler = name  # for options are those of a name
    kept = {field: getattr(there, field) for field in ("deployments", "offline_updates", "updates")}
    kept |= {"rows_per_deployment": there.rows_per_deployment, "seed": seed}
    planned = plan_campaign(
        logs=load(RunDirectory(options.run).data),
        hidden=options.hidden,
        algorithm_options=read_pairs(options.algorithm_option, "--algorithm-option"),
        sampler_options=read_pairs(options.sampler_option, "--sampler-option"),
        **{"algorithm": there.algorithm, "sampler": sampler, **kept, **given},
    )
    if "sampler" not in given:
        (planned_sampler,) = planned.samplers.values()
        planned = dataclasses.replace(planned, samplers={name: planned_sampler})
    plan_run(options.run, planned)  # which names what differs


def _tell_who_diverged(campaign: Campaign, number: int) -> int:
    """Name those who left the finite numbers at a deployment; the exit status that belongs to it."""
    found = [stop for stop in campaign.diverged if stop.deployment == number]
    for stop in found:
        print(f"marline: {sentence(stop, campaign.folder)}", file=sys.stderr)
    return DIVERGED if found else 0


def ingest(options: Ingest) -> int:
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
    bundles += () if options.mapping is None else ("--mapping", options.mapping)
    logs = () if options.logs is None else (options.logs,)
    with resumable(command("ingest", options.run, *logs, *(flag for flag, given in flags.items() if given), *bundles)):
        campaign = open_campaign(options.run)
        found = campaign.ingest(
            options.logs,
            allow_missing=options.allow_missing,
            unstamped=options.unstamped,
            replace=options.replace,
            clip_actions=options.clip_actions,
            more=options.more,
            policy_of=options.policy_of,
            mapping=options.mapping,
        )
    if options.json:
        say_json(found._asdict())
        return 0
    for note in grouped(found.notes):
        say(f"note: {note}")
    gate = [its for _, its in of_kind(Gated, campaign.ledger.events(), found.deployment)]
    lines = describe_gate(gate[-1], options.run) if gate and found.outcome == "ingested" else []
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
        return [
            f"deployment {found.deployment}: WAITING {arrived}/{team}, {logs_to_come(absent, parts)}; rows: {rows}",
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


def tune(options: Tune) -> int:
    """`marline tune`."""
    require_trackers(options.log)
    set_up_jax()
    campaign = open_campaign(options.run, strict=options.strict)
    with (
        resumable(
            command("tune", options.run, *_several("--agent", options.agent), *_several("--freeze", options.freeze))
        ),
        warnings.catch_warnings(action="ignore", category=DivergenceWarning),  # said below
        tracked(options.run, options.log),
    ):
        if campaign.logs_are_in:
            say(f"tuning on deployment {campaign.number + 1}", quiet=options.json)
        record = campaign.tune(
            agents=options.agent,
            freeze=options.freeze,
            changes=lambda lines: say("\n".join(lines), quiet=options.json) if lines else None,
        )
    number = record["deployment"]
    status = _tell_who_diverged(campaign, number)
    if options.json:
        say_json({**record, "returns": campaign.returns})
        return status
    own = campaign.records[number - 1].get("agent_returns", {})
    each = ", ".join(f"{agent} {value:.4g}" for agent, value in own.items())
    whose = f", the mean over agents ({each})" if own else ""
    say(f"the team that was out in deployment {number} returned {campaign.returns[-1]:.4g} per episode{whose}")
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
    say_where(options.log)
    if number == campaign.config.deployments:
        say(f"all {number} deployments are done")
        say(f"  next: {command('report', options.run)}")
    else:
        say(f"  next: {command('export', options.run)}")
    return status


def _several(flag: str, values: Sequence[str]) -> tuple[str, ...]:
    return (flag, *values) if values else ()


def rollback(options: Rollback) -> int:
    """`marline rollback`."""
    set_up_jax()
    ((_, back),) = of_kind(RolledBack, [open_campaign(options.run).rollback(options.to, options.agent)])
    what = f"after deployment {options.to}" if options.to else "after offline training"
    say(f"{', '.join(back.agents)}: back to the policies {what}; what was logged since stays")
    say(f"  next: {command('export', options.run)}")
    return 0
