"""How CPU seconds and memory grow with agents, rows, files and the parts of a report, each at several sizes.

Every size has a process of its own, so that memory means its own; most of what is compiled is compiled before,
unmeasured, in that process. `exponent` is the slope between the first and the last size on logarithmic scales: 1 where
twice as much takes twice as long. Linux.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import resource
import runpy
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import interleave
import numpy as np

Seconds = dict[str, float]
SIZES = {
    "agents": (20, 60, 200),
    "rows": (200_000, 1_000_000, 5_000_000),
    "files": (40, 200, 1000),
    "parts": (10, 40, 200),
}
QUICK = {"agents": (2, 4), "rows": (500, 1000), "files": (2, 4), "parts": (1, 2)}
COLUMNS: Sequence[str] = ("what", "size", "step", "cpu_s", "peak_mib")
SAMPLERS = ("uniform", "otc-value", "otc-embedding", "otc-two-stage", "online-only", "return-weighted")
SAMPLERS += ("fresh-share", "half-and-half", "adaptive-share", "two-sided")


def random_log(num_rows: int, seed: int, steps: int = 100) -> Any:
    """Rows of 17 observations and 3 actions."""
    from marline.data.dataset import from_arrays

    random = np.random.default_rng(seed)
    observations = random.random((num_rows, 17), np.float32)
    columns = {
        "observations": observations,
        "actions": random.uniform(-1, 1, (num_rows, 3)).astype(np.float32),
        "rewards": observations[:, 0],
        "next_observations": observations,
        "terminals": np.zeros(num_rows, bool),
        "timeouts": np.arange(1, num_rows + 1) % steps == 0,
    }
    return from_arrays(f"agent_{seed}", columns)


def agents(size: int, folder: Path) -> Seconds:
    """A campaign of many agents, over two deployments, of which the second compiles nothing."""
    from marline.algorithms import TD3BC
    from marline.campaign.campaign import Campaign
    from marline.campaign.status import status
    from marline.runs.verify import verify
    from marline.samplers import OTC

    found, clock = {}, _clock
    logs = {f"agent_{seed}": random_log(1000, seed) for seed in range(size)}
    first, second = (
        {agent: random_log(100, start + place) for place, agent in enumerate(logs)} for start in (1000, 2000)
    )
    plan: dict[str, Any] = {"algorithm": TD3BC(hidden=(16,)), "sampler": OTC("value"), "deployments": 2}
    plan |= {"offline_updates": 10, "updates": 10, "rows_per_deployment": 100}
    warm = Campaign.create(folder / "warm", {"agent_0": logs["agent_0"]}, **plan)
    warm.train()
    warm.tune({"agent_0": first["agent_0"]})
    found["create"], run = clock(lambda: Campaign.create(folder / "run", logs, **plan))
    found["train"], _ = clock(run.train)
    run.tune(first)
    found["tune"], _ = clock(lambda: run.tune(second))
    found["open"], _ = clock(lambda: Campaign.open(folder / "run"))
    found["status"], _ = clock(lambda: status(folder / "run"))
    found["verify"], _ = clock(lambda: verify(folder / "run"))
    return found


def rows(size: int, folder: Path) -> Seconds:
    """Logs of one agent: written, checked, read, and put on the device."""
    from marline.data import dataset
    from marline.data.check import check
    from marline.data.experience import Experience

    logs = {"agent_0": random_log(size, 0)}
    found = {"check": _clock(lambda: check(logs))[0]}
    found["save"], _ = _clock(lambda: dataset.save(folder / "logs", logs))
    found["load"], logs = _clock(lambda: dataset.load(folder / "logs"))
    log = logs.pop("agent_0")
    found["to device"], _ = _clock(
        lambda: Experience.create(
            log.transition(), log.spec, num_deployments=1, rows_per_deployment=100, ends=log.timeouts
        )
    )
    return found


def files(size: int, folder: Path) -> Seconds:
    """Episodes that a bundle's script logged, a file each, and the same as tables that are imported."""
    from marline.algorithms import TD3BC
    from marline.campaign.campaign import Campaign
    from marline.data.decentralize import import_log
    from marline.data.formats import open_log
    from marline.samplers import OTC

    steps = 20
    plan: dict[str, Any] = {"algorithm": TD3BC(hidden=(16,)), "sampler": OTC("value"), "deployments": 1}
    plan |= {"offline_updates": 1, "updates": 1, "rows_per_deployment": size * steps}
    run = Campaign.create(folder / "run", {"agent_0": random_log(1000, 0, steps)}, **plan)
    run.train()
    played = play(run.export().folder / "agent_0", folder / "back" / "agent_0", size, steps)
    found = {"ingest": _clock(lambda: run.ingest(folder / "back"))[0]}
    tables = folder / "tables"
    tables.mkdir()
    for number in range(size):
        np.savez(tables / f"{number:06d}.npz", **played)
    found["import"], _ = _clock(lambda: import_log(open_log(tables), folder / "imported"))
    return found


def play(bundle: Path, out: Path, num_files: int, steps: int) -> dict[str, Any]:
    """Let the script of a bundle log episodes, a file each; returns the columns of one."""
    server = runpy.run_path(str(bundle / "run_policy.py"))["Agent"](out, bundle)
    random = np.random.default_rng(0)
    for _ in range(num_files):
        server.step({"observation": random.random(17)})
        for step in range(steps):
            came = {"reward": random.random(), "terminal": False, "timeout": step == steps - 1}
            server.step({"observation": random.random(17), **came})
    with np.load(next(iter(sorted(out.glob("*.npz"))))) as file:
        return {name: file[name] for name in file if file[name].ndim and len(file[name]) == steps}


def parts(size: int, folder: Path) -> Seconds:
    """The report of a study of up to ten samplers, each with as many seeds as make that many parts."""
    from marline.algorithms import TD3BC
    from marline.report import write_report
    from marline.study.study import Study

    names = SAMPLERS[: min(len(SAMPLERS), size)]
    settings: dict[str, Any] = {"algorithm": TD3BC(hidden=(8,)), "samplers": names, "dataset_size": 1000}
    settings |= {"rows_per_deployment": 50, "offline_updates": 5, "updates": 5, "deployments": 2}
    run, seeds = folder / "run", size // len(names)
    study = Study.create(run, task="cooperative-navigation-2", seeds=1, **settings)
    study.run()
    study.extend(seeds=seeds)
    for seed in range(1, seeds):  # what a report reads of a seed, which takes as long whatever is in it
        for file in (*run.glob("seed-0/*/metrics.jsonl"), *run.glob("seed-0/*/trajectories.json")):
            to = run / f"seed-{seed}" / file.relative_to(run / "seed-0")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
    write_report([run], folder / "warm.html")
    return {"report": _clock(lambda: write_report([run], folder / "report.html"))[0]}


WHAT: Mapping[str, Callable[[int, Path], Seconds]] = {"agents": agents, "rows": rows, "files": files, "parts": parts}


def _clock(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def _apart(name: str, size: int, folder: str, answer: Any) -> None:
    found = WHAT[name](size, Path(folder))
    answer.put((found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure(name: str, size: int) -> list[dict[str, Any]]:
    """Each step at one size, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    folder, answer = tempfile.mkdtemp(), context.SimpleQueue()
    try:
        process = context.Process(target=_apart, args=(name, size, folder, answer))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{name} at {size} failed")
        found, peak = answer.get()
    finally:
        shutil.rmtree(folder)
    values = {"what": name, "size": size, "peak_mib": peak}
    return [values | {"step": step, "cpu_s": seconds} for step, seconds in found.items()]


def table(lines: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row per step: seconds by size, exponent, and the peak of memory by size."""
    rows = []
    for what, step in dict.fromkeys((line["what"], line["step"]) for line in lines):
        its = sorted(
            (line for line in lines if (line["what"], line["step"]) == (what, step)), key=lambda it: it["size"]
        )
        first, last = its[0], its[-1]
        slope = math.log(max(last["cpu_s"], 1e-4) / max(first["cpu_s"], 1e-4)) / math.log(last["size"] / first["size"])
        sizes, seconds, peaks = (
            ", ".join(form.format(it[key]) for it in its)
            for key, form in (("size", "{:,}"), ("cpu_s", "{:.2f}"), ("peak_mib", "{:.0f}"))
        )
        rows.append([what, step, sizes, seconds, f"{slope:.2f}", peaks])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(WHAT), nargs="+", default=list(WHAT))
    parser.add_argument("--out", type=Path, help="a CSV file; what is in it of other things is kept")
    parser.add_argument("--quick", action="store_true", help="a small version")
    options = parser.parse_args()
    lines: list[dict[str, Any]] = []
    for name in options.only:
        for size in (QUICK if options.quick else SIZES)[name]:
            lines += measure(name, size)
            if options.out is not None:
                write(options.out, lines)
    header = ["", "step", "sizes", "CPU s", "exponent", "peak MiB of the process"]
    interleave.print_table(header, table(lines))


def write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    kept = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            kept = [line for line in csv.DictReader(file) if line["what"] not in {line["what"] for line in lines}]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        writer.writerows(
            {**line, "cpu_s": f"{line['cpu_s']:.4g}", "peak_mib": f"{line['peak_mib']:.0f}"} for line in lines
        )


if __name__ == "__main__":
    main()
