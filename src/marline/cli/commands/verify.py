"""`marline verify`."""

from __future__ import annotations

import itertools
import sys

from marline import envs
from marline.cli.commands.opening import open_campaign
from marline.cli.options.campaign import Verify
from marline.configuration.run_config import RunConfig
from marline.data import dataset
from marline.display.console import say
from marline.display.shell import command
from marline.envs import make_task
from marline.errors import DAMAGED
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
