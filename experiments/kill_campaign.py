"""Kill a campaign at random moments, again and again, and see whether it ends as one that was left alone.

    python experiments/kill_campaign.py --kills 200
    python experiments/kill_campaign.py --kills 10 --seed 1      # what the tests do

A campaign is trained, exported, deployed, ingested agent by agent, tuned and reported, in a process that kills itself
by SIGKILL before or after a random one of its durable steps: a file synced, renamed or exchanged, an event appended.
The next process begins the story anew, as a person would repeat the last command, and is killed in turn. When a story
has come to its end, policies, learners, logs, measurements and the kinds of events must be those of the undisturbed
one. Half of the kills come after a random time instead, which hits any line (with --by-time 1, all of them).

Processes are forked from one that has imported everything and has started no threads yet.
"""

from __future__ import annotations

import argparse
import collections
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

import numpy as np

import marline
import marline.campaign.exporting  # these are loaded late otherwise, in every process anew
import marline.report
from marline.campaign import ledger
from marline.campaign.campaign import Campaign
from marline.campaign.verify import verify
from marline.data import files

SIZES = {"arm": (3, 2), "cart": (5, 1)}
EPISODES, STEPS, DEPLOYMENTS = 2, 5, 2


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


def story(folder: Path) -> None:
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


class DurableSteps:
    """Counts what reaches the disk, and kills this process before or after step number `fatal`."""

    def __init__(self, fatal: float) -> None:
        self.count, self.fatal = 0, fatal
        durable = [(os, "fsync"), (os, "replace"), (os, "rename"), (files, "exchange"), (ledger.Ledger, "append")]
        for owner, name in durable:
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


def in_a_process(folder: Path, *, fatal: float = float("inf"), seconds: float | None = None) -> tuple[bool, int, float]:
    """Play the story in a process of its own: whether it came to its end, its durable steps, its time."""
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
            story(folder)
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


def outcome(folder: Path) -> dict[str, str]:
    """What must not depend on interruptions."""
    found = {}
    for pattern in ("**/*.safetensors", "**/*.h5", "**/metrics.jsonl", "came-*/**/*.npz", "**/policy.onnx"):
        for path in folder.glob(pattern):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    events = ledger.Ledger(folder / "run").events()
    found["events"] = json.dumps([(event.kind, event.deployment) for event in events])
    wrong = verify(folder / "run").problems
    assert not wrong, wrong
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--by-time", type=float, default=0.5, help="share of kills that come after a random time")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as base:
        _, num_steps, seconds = in_a_process(Path(base) / "whole")  # compiles
        whole = outcome(Path(base) / "whole")
        print(f"undisturbed: {num_steps} durable steps, {len(whole)} things to compare", flush=True)
        kills, stories = 0, collections.Counter[int]()
        while kills < options.kills:
            folder = Path(base) / f"story-{len(stories)}"
            killed_here = 0
            while kills < options.kills:
                by_time = rng.random() < options.by_time
                # early enough that several kills fall into a story
                fatal = float("inf") if by_time else rng.randint(1, max(1, num_steps // 2))
                ended, _, seconds = in_a_process(
                    folder, fatal=fatal, seconds=rng.uniform(0, seconds) if by_time else None
                )
                if ended:
                    break
                kills, killed_here = kills + 1, killed_here + 1
            in_a_process(folder)
            found = outcome(folder)
            different = sorted(name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name))
            if different:
                sys.exit(f"FAILED: after {killed_here} kills {', '.join(different)} came out otherwise")
            stories[len(stories)] = killed_here
            shutil.rmtree(folder)
        print(f"{kills} kills in {len(stories)} stories ({list(stories.values())}): every one ended as the undisturbed")


if __name__ == "__main__":
    main()
