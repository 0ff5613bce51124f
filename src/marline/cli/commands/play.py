"""`marline play`: episodes of a team, numbers and moving pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from marline.cli.commands.get import MIRROR, shelf_of
from marline.cli.options.study import Play
from marline.display.console import say, say_json
from marline.display.shell import command
from marline.envs import make_task
from marline.errors import require, require_name
from marline.policy import RandomPolicy
from marline.rollouts import video
from marline.rollouts.collection import rollout
from marline.rollouts.rollout import Policies
from marline.runs.integrity import read_configuration, require_belonging
from marline.runs.layout import RunDirectory
from marline.runs.policies import chosen, read_policies
from marline.runs.world_keys import evaluation_key, world_key
from marline.runtime import set_up_jax


def play(options: Play) -> int:
    """`marline play`."""
    require(
        (options.run is None) != (options.task is None),
        "name either a run directory or a --task, whose agents are played",
    )
    require(
        options.run is not None or (options.mirror, options.seal) == (None, None),
        "--mirror and --seal are for a team that is on a shelf; name it, or leave them out",
    )
    require(options.episodes >= 1, f"--episodes is {options.episodes}, but must be at least 1")
    if options.video is not None:
        video.require_video_format(options.video)
    config = None
    if options.run is not None and _is_on_a_shelf(options.run, options):
        _get(options.run, options)
    if options.run is not None:
        config = read_configuration(options.run)
        require_belonging(options.run)
    name = options.task if config is None else config.task
    require(name is not None, f"{options.run} has no task: its deployments happen outside")
    assert name is not None
    task = make_task(name)
    set_up_jax()
    if config is None or options.run is None:
        who, number, seed = "at random", -1, options.seed or 0
        key = world_key(seed, "evaluation")
        team: Policies = {agent: RandomPolicy(spec) for agent, spec in task.specs.items()}
    else:
        seed = chosen(options.seed, config.seeds, "seed")
        key = evaluation_key(config, seed)
        who = None if options.deployment == 0 else chosen(options.sampler, tuple(config.samplers), "sampler")
        number, _, team = read_policies(RunDirectory(options.run), config, seed, who, options.deployment)
        who = f"{who} after deployment {number}" if number else "the offline team"
    deployment = number + 1  # the next one's world, where it drifts
    returns: list[float] = []
    say(f"{name}: {who}, seed {seed}", quiet=options.json)

    def episodes() -> Iterator[video.Frame]:
        for number in range(options.episodes):
            frames, total = video.record(task, team, key=key, episode=number, deployment=deployment)
            returns.append(total)
            say(f"  episode {number}: return {total:.2f}, {len(frames)} frames", quiet=options.json)
            yield from frames

    if options.video is not None:
        video.save(options.video, episodes())
        say(f"  video: {options.video}", quiet=options.json)
    else:
        played = rollout(task, team, options.episodes, key=key, deployment=deployment)
        returns = played.returns.tolist()
        for number, total in enumerate(returns):
            say(f"  episode {number}: return {total:.2f}", quiet=options.json)
    if options.json:
        path = None if options.video is None else str(options.video)
        say_json({"task": name, "team": who, "seed": seed, "returns": returns, "video": path})
    return 0


def _is_on_a_shelf(folder: Path, options: Play) -> bool:
    """Whether a team is asked for by its name on a shelf, and not by its folder alone."""
    is_name = folder.name == str(folder) and not folder.exists()
    return bool(options.mirror or options.seal or (is_name and os.environ.get(MIRROR)))


def _get(folder: Path, options: Play) -> None:
    """Put a team of a shelf into the working directory, where it is not there yet."""
    require(
        folder.name == str(folder),
        f"{folder} is a path; with --mirror give what the team is called on the shelf, or leave --mirror out",
    )
    shelf = shelf_of(options.mirror, options.seal)
    require_name(folder.name, shelf.about, "thing on this shelf")
    if not folder.exists():
        shelf.get(folder.name, folder)
        say(f"{folder}: {shelf.about[folder.name]}", quiet=options.json)
    require(
        (folder / "run.json").exists(),
        f"{folder} is no team: these are logs; `{command('data', 'check', folder)}` does",
    )
