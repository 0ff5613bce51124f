"""Does OTC learn as well where it matches now and then? Three tasks, both of the paper's distances, five seeds.

    python experiments/refresh.py                  # everything, about an hour on two cores
    python experiments/refresh.py predator-prey    # one part

`staleness` asks what a refresh may cost: as many candidates per update in fewer and larger refreshes, and more
candidates at the same distance. Each part is a run directory under runs/, resumed where it was left; results/ gets
each run's returns and one table of paired differences.
"""

import dataclasses
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from marline import cli, commands
from marline.algorithms import TD3BC
from marline.campaign import study
from marline.configuration import RunConfig
from marline.evaluation import paired_difference
from marline.report.records import Run, read_run
from marline.runtime import set_up_jax
from marline.samplers import OTC, EmbeddingDistance, Sampler, Uniform

VALUE, EMBEDDING = OTC("value"), OTC(EmbeddingDistance(num_updates=10_000))
REFRESHED = {"match": "refresh", "num_estimate": 2000}
COMPARED: dict[str, Sampler] = {
    "uniform": Uniform(),
    "otc-value": VALUE,
    "otc-value-refresh": dataclasses.replace(VALUE, **REFRESHED),
    "otc-embedding": EMBEDDING,
    "otc-embedding-refresh": dataclasses.replace(EMBEDDING, **REFRESHED),
}


def refreshed(every: int, groups: int) -> OTC:
    return dataclasses.replace(VALUE, **REFRESHED, refresh_every=every, num_groups=groups)


STALE: dict[str, Sampler] = {
    "uniform": Uniform(),
    "otc-value": VALUE,
    "every-125-of-1": refreshed(125, 1),
    "every-500-of-4": refreshed(500, 4),
    "every-2000-of-16": refreshed(2000, 16),
    "every-125-of-16": refreshed(125, 16),
    "every-2000-of-256": refreshed(2000, 256),
}
PARTS: dict[str, tuple[str, dict[str, Sampler]]] = {
    "cooperative-navigation-2": ("cooperative-navigation-2", COMPARED),
    "predator-prey": ("predator-prey", COMPARED),
    "drifting-navigation": ("drifting-navigation", COMPARED),
    "staleness": ("cooperative-navigation-2", STALE),
}


def counterpart(name: str) -> str | None:
    """The sampler that matches at each update of which this one is a cheaper form."""
    if name.endswith("-refresh"):
        return name.removesuffix("-refresh")
    return "otc-value" if name.startswith("every-") else None


def table(run: Run) -> list[str]:
    """Last returns, and paired differences to uniform and to the sampler that matches at each update.

    The last column averages over all deployments, which is the area between two learning curves.
    """
    curves = {
        sampler.name: {seed: list(run.curve(sampler.name, seed).values())[1:] for seed in run.seeds}
        for sampler in run.samplers
    }

    def difference(name: str, other: str | None, part: Callable[[list[float]], float]) -> str:
        if other is None or name == other:
            return ""
        mine, its = ([part(curves[who][seed]) for seed in run.seeds] for who in (name, other))
        return str(paired_difference(mine, its))

    def last(curve: list[float]) -> float:
        return curve[-1]

    header = ["sampler", "last return", "last, to uniform", "last, to matching at each update", "mean of all, to that"]
    lines = [f"### {run.path.name}: {run.task}, {run.algorithm}, seeds {', '.join(map(str, run.seeds))}", ""]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for name in curves:
        literal = counterpart(name)
        compared = difference(name, literal, last), difference(name, literal, statistics.mean)
        cells = [f"`{name}`", f"{statistics.mean(curve[-1] for curve in curves[name].values()):.2f}"]
        cells += [difference(name, "uniform", last), *compared]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def main(parts: list[str]) -> None:
    set_up_jax()
    results = Path("results")
    results.mkdir(exist_ok=True)
    for part in parts or PARTS:
        task, samplers = PARTS[part]
        folder = Path("runs") / f"refresh-{part}"
        config = RunConfig(
            task=task,
            algorithm=TD3BC(hidden=(64, 64), alpha_bc=100.0),
            samplers=samplers,
            seeds=(0, 1, 2, 3, 4),
            rows_per_deployment=2000,
            offline_updates=20_000,
            deployments=5,
            updates=2000,
            dataset_size=200_000,
        )
        study.create(folder, config)
        commands.resume(folder)
        commands.report(cli.Report(runs=(folder,), csv=results / f"{folder.name}.csv"))
    done = [run for part in PARTS if (run := Path("runs") / f"refresh-{part}").exists()]
    lines = [line for run in done for line in table(read_run(run))]
    (results / "refresh.md").write_text("\n".join(lines), encoding="utf-8")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
