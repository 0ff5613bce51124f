"""`marline verify`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from marline import envs
from marline.campaign.status import status as campaign_status
from marline.cli.commands.opening import open_campaign
from marline.cli.options.campaign import Verify
from marline.configuration.run_config import RunConfig
from marline.data import dataset
from marline.display.console import say
from marline.display.shell import command
from marline.envs import make_task
from marline.errors import DAMAGED, MarlineError
from marline.runs.creation import resume_command
from marline.runs.integrity import histories, read_configuration, require_belonging
from marline.runs.layout import RunDirectory
from marline.runs.verify import verify as verify_files
from marline.runtime import set_up_jax
from marline.study import execution as study


def verify(options: Verify) -> int:
    """`marline verify`."""
    set_up_jax()
    found = verify_files(options.run)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    for problem in found.problems:
        print(f"marline: {problem}", file=sys.stderr)
    say(f"{found.num_files} files and {found.num_events} events checked, {len(found.problems)} problems")
    if found.problems:
        going_on = _mending(options.run)
        if going_on is not None:
            say("what a damaged checkpoint held can be computed again")
            say(f"  next: {going_on}")
        return DAMAGED
    config = RunConfig.read(RunDirectory(options.run).configuration)
    if config.task is not None:
        status = _replay_study(options, config) if options.replay else 0
        say(f"  next: {command('report', options.run)}")
        return status
    if options.replay:
        campaign = open_campaign(options.run)
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


def _mending(run: Path) -> str | None:
    """The command that makes a damaged last checkpoint again, if there is one and all that it takes is there."""
    try:
        config = read_configuration(run)
        require_belonging(run)
        if config.task is None:
            standing = campaign_status(run)
            return standing.next if standing.notes else None
        lost = any(set(history.steps()[-1:]) - set(history.intact_steps()) for history in histories(run))
        return resume_command(run, config) if lost else None
    except MarlineError:
        return None


def _replay_study(options: Verify, config: RunConfig) -> int:
    """Compute again what every part of a study computed last."""
    assert config.task is not None
    if options.trust:
        envs.trust(config.task)
    make_task(config.task)  # which refuses code that nobody said to trust
    data, status = dataset.load(RunDirectory(options.run).data), 0
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
