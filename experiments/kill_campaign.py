"""Kill a campaign, or `marline run`, at random moments, again and again: does it end as one that was left alone?

    python experiments/kill_campaign.py --kills 200
    python experiments/kill_campaign.py --what campaign --kills 2 --by-time 0 --seed 3       # what the tests do

A campaign is trained, exported, deployed, ingested agent by agent, tuned and reported; or `marline run` compares OTC,
uniform replay and the control that matches OTC. The process kills itself by SIGKILL before or after a random one of its
durable steps: a file synced, renamed, exchanged or removed, an event appended. The next process begins the story anew,
as a person would repeat the last command, or `marline resume`, and is killed in turn. When a story has come to its end,
policies, learners, memories, logs, measurements and the kinds of events must be those of the undisturbed one, and
nothing half written may be left; and once more after it was begun anew, for there is nothing to do then. Half of the
kills come after a random time instead, which hits any line (with --by-time 1, all of them).

Processes are forked from one that has imported everything and has started no threads yet.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import marline
import marline.cli.commands.study
import marline.report
import marline.runs.export  # these are loaded late otherwise, in every process anew
import marline.study.local_engine
from marline import cli
from marline.campaign.campaign import Campaign
from marline.data import files
from marline.data.scratch import is_scratch
from marline.runs import ledger
from marline.runs.verify import verify
from marline.runtime import set_up_jax

SIZES = {"arm": (3, 2), "cart": (5, 1)}
EPISODES, STEPS = 2, 5
DEPLOYMENTS = 4  # two checkpoints are kept, so that some are removed
RUN = (
    "--task cooperative-navigation-2 --sampler otc-value uniform online-matched --seeds 1 --dataset-size 400 "
    f"--offline-updates 8 --deployments {DEPLOYMENTS} --updates 4 --hidden 4 --evaluation-episodes 2 "
    "--deployment-fraction 0.05"
).split()


def offline_logs() -> dict[str, marline.Dataset]:
    rng = np.random.default_rng(0)
    num_rows = 60
    shared = {
        "rewards": rng.normal(size=num_rows),
        "terminals": np.zeros(num_rows, bool),
        "timeouts": np.arange(1, num_rows + 1) % STEPS == 0,
    }
    return {
        agent: marline.from_arrays(
            agent,
            {
                "observations": rng.normal(size=(num_rows, num_seen)),
                "actions": rng.uniform(-1, 1, (num_rows, num_done)),
                "next_observations": rng.normal(size=(num_rows, num_seen)),
            }
            | shared,
        )
        for agent, (num_seen, num_done) in SIZES.items()
    }


def campaign(folder: Path) -> None:
    """A campaign from its start, or from wherever an earlier process left it, to its end."""
    run = Campaign.create(
        folder / "run",
        offline_logs(),
        algorithm=marline.TD3BC(hidden=(4,)),
        sampler=marline.OTC("value", num_candidates=8, num_references=8, batch_size=4, num_estimate=8),
        deployments=DEPLOYMENTS,
        offline_updates=4,
        updates=4,
        rows_per_deployment=EPISODES * STEPS,
    )
    run.train()
    while run.number < DEPLOYMENTS:
        number = run.number + 1
        came = folder / f"came-{number}"
        if not came.exists():
            bundles = run.export().folder
            in_the_field(bundles, folder / "field", number)
            os.rename(folder / "field", came)
        for agent in SIZES:
            run.ingest(came / agent)
        run.tune()
    run.report()


def in_the_field(bundles: Path, logs: Path, seed: int) -> None:
    """Let the bundles act; what an earlier process logged and did not finish is thrown away."""
    shutil.rmtree(logs, ignore_errors=True)
    for agent, (num_seen, _) in SIZES.items():
        server = runpy.run_path(str(bundles / agent / "run_policy.py"))["Agent"](logs / agent, bundles / agent)
        seen, rewards = np.random.default_rng([seed, num_seen]), np.random.default_rng(seed)
        for _ in range(EPISODES):
            server.step({"observation": seen.normal(size=num_seen)})
            for step in range(STEPS):
                outcome = {"reward": rewards.normal(), "terminal": False, "timeout": step == STEPS - 1}
                server.step({"observation": seen.normal(size=num_seen), **outcome})


def run(folder: Path) -> None:
    """`marline run`, or `marline resume` where an earlier process came far enough for that."""
    path = folder / "run"
    command = ["resume", str(path)] if (path / "run.json").exists() else ["run", "--run", str(path), *RUN]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            cli.main(command)
        except SystemExit as end:
            if end.code:
                raise


def measured(run: Path) -> dict[str, str]:
    """What must not depend on interruptions: arrays, and measurements but for the seconds that they took."""
    found = {}
    for pattern in ("**/*.safetensors", "**/*.h5", "**/trajectories.json", "**/policy.onnx"):
        for path in run.glob(pattern):
            found[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in run.glob("**/metrics.jsonl"):
        lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
        timeless = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
        found[str(path.relative_to(run))] = json.dumps(timeless)
    found["left half written"] = str([str(path) for path in run.rglob(".*") if is_scratch(path)])
    return found


def outcome_of_campaign(folder: Path) -> dict[str, str]:
    found = measured(folder / "run")
    for path in folder.glob("came-*/**/*.npz"):
        found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    events = ledger.Ledger(folder / "run").events()
    found["events"] = json.dumps([(event.kind, event.deployment) for event in events])
    found["what verify finds"] = str(verify(folder / "run").problems)
    return found


def outcome_of_run(folder: Path) -> dict[str, str]:
    return {**measured(folder / "run"), "report": str((folder / "run" / "report.html").exists())}


class Story(NamedTuple):
    """Something that is begun again after every kill, and what it must come to in a folder."""

    play: Callable[[Path], None]
    outcome: Callable[[Path], dict[str, str]]


STORIES = {"campaign": Story(campaign, outcome_of_campaign), "run": Story(run, outcome_of_run)}


class DurableSteps:
    """Counts what reaches the disk, and kills this process before or after step number `fatal`."""

    def __init__(self, fatal: float) -> None:
        self.count, self.fatal = 0, fatal
        durable = [(os, name) for name in ("fsync", "replace", "rename", "unlink", "rmdir")]
        for owner, name in [*durable, (files, "exchange"), (ledger.Ledger, "append")]:
            setattr(owner, name, self.counted(getattr(owner, name)))

    def counted(self, function: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            self.tick()
            result = function(*arguments, **options)
            self.tick()
            return result

        return step

    def tick(self) -> None:
        self.count += 1
        if self.count >= self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_process(
    play: Callable[[Path], None], folder: Path, *, fatal: float = float("inf"), seconds: float | None = None
) -> tuple[bool, int, float]:
    """Play a story in a process of its own: whether it came to its end, its durable steps, its time."""
    began = time.monotonic()
    answer, say = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answer)
        status = 1
        try:
            if seconds is not None:
                timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
                timer.daemon = True
                timer.start()
            steps = DurableSteps(fatal)
            play(folder)
            os.write(say, str(steps.count).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    os.close(say)
    _, status = os.waitpid(child, 0)
    with os.fdopen(answer) as pipe:
        count = pipe.read()
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        sys.exit("FAILED: a process gave up instead of going on; its error is above")
    return os.WIFEXITED(status), int(count or 0), time.monotonic() - began


def kill(what: str, num_kills: int, rng: random.Random, by_time: float, base: Path) -> None:
    """Kill stories of a kind until there were so many kills; leave with status 1 where one came out otherwise."""
    play, outcome = STORIES[what]
    _, num_steps, seconds = in_a_process(play, base / "whole")  # compiles
    whole = outcome(base / "whole")
    print(f"{what}, undisturbed: {num_steps} durable steps, {len(whole)} things to compare", flush=True)
    kills = num_stories = 0
    while kills < num_kills:
        folder = base / f"story-{num_stories}"
        ended, killed_here = False, 0
        while kills < num_kills:
            timed = rng.random() < by_time
            # early enough that several kills fall into a story
            fatal = float("inf") if timed else rng.randint(1, max(1, num_steps // 2))
            ended, _, seconds = in_a_process(
                play, folder, fatal=fatal, seconds=rng.uniform(0, seconds) if timed else None
            )
            if ended:
                break
            kills, killed_here = kills + 1, killed_here + 1
        for _ in range(1 if ended else 2):
            in_a_process(play, folder)
            found = outcome(folder)
            different = sorted(name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name))
            if different:
                sys.exit(f"FAILED: {what} after {killed_here} kills: {', '.join(different)} came out otherwise")
        num_stories += 1
        print(f"{what}: {kills} kills, story {num_stories} ended as the undisturbed after {killed_here}", flush=True)
        shutil.rmtree(folder)
    print(f"{what}: {kills} kills in {num_stories} stories: every one ended as the undisturbed", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=[*STORIES, "both"], default="both")
    parser.add_argument("--kills", type=int, default=200, help="of both, half each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--by-time", type=float, default=0.5, help="share of kills that come after a random time")
    options = parser.parse_args()
    chosen = [what for what in STORIES if options.what in (what, "both")]
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as base:
        # what one process compiled, the next finds, however short it took
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{base}/cache")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        set_up_jax()
        for what in chosen:
            kill(what, options.kills // len(chosen), rng, options.by_time, Path(base, what))


if __name__ == "__main__":
    main()
