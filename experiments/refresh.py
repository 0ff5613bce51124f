"""Does OTC learn as well where it matches now and then? Three tasks, both of the paper's distances, five seeds.

    python experiments/refresh.py                  # everything, about an hour on two cores
    python experiments/refresh.py predator-prey    # one part
    python experiments/refresh.py --quick --runs /tmp/runs --results /tmp/results   # whether it works

`staleness` asks what a refresh may cost: as many candidates per update in fewer and larger refreshes, and more
candidates at the same distance. Each part is a run directory under runs/, resumed where it was left; results/ gets
each run's returns, and what they come to is printed; `experiments/verdicts.py` writes it into the pages.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from published import RESULTS, require_apart

from marline import Study
from marline.algorithms import TD3BC
from marline.errors import require_name
from marline.report import write_csv
from marline.report.records import Run, read_run
from marline.report.statements import interval
from marline.runtime import set_up_jax
from marline.samplers import OTC, EmbeddingDistance, Sampler, Uniform
from marline.statistics.intervals import MIN_SEEDS, equality, equality_margin, paired_difference

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


SIZE: dict[str, Any] = {
    "seeds": 5,
    "dataset_size": 200_000,
    "rows_per_deployment": 2000,
    "offline_updates": 20_000,
    "deployments": 5,
    "updates": 2000,
    "evaluation_episodes": 100,
}
QUICK: dict[str, Any] = SIZE | {
    "seeds": 2,
    "dataset_size": 400,
    "rows_per_deployment": 20,
    "offline_updates": 4,
    "deployments": 1,
    "updates": 4,
    "evaluation_episodes": 2,
}
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


def last(curve: list[float]) -> float:
    """The return after the last deployment."""
    return curve[-1]


PARTS_OF_A_CURVE: dict[str, Callable[[list[float]], float]] = {"last": last, "mean": statistics.mean}


def values(run: Run, name: str, part: str) -> list[float]:
    """One value per seed: the last return, or the mean over deployments, which is the area below the curve."""
    return [PARTS_OF_A_CURVE[part](list(run.curve(name, seed).values())[1:]) for seed in run.seeds]


def difference(run: Run, name: str, other: str, part: str) -> str:
    """Mean and 95 % interval over seeds."""
    return interval(paired_difference(values(run, name, part), values(run, other, part)))


def equal(run: Run, name: str, other: str, part: str) -> str:
    """Whether two one-sided tests show equality, and with enough seeds for a verdict."""
    differences = paired_difference(values(run, name, part), values(run, other, part)).per_seed
    margin = equality_margin(list(run.returns(name, 0).values()))
    found = equality(differences, margin)
    if not found.holds:
        return f"not shown within {margin:.2g}"
    return f"within {margin:.2g}{', a direction' if len(differences) < MIN_SEEDS else ''}"


def table(run: Run) -> list[str]:
    """Last returns, and paired differences to uniform and to the sampler that matches at each update."""
    header = ["sampler", "last return", "last, to uniform", "last, to matching at each update", "mean of all, to that"]
    header += ["last, equal?"]
    lines = [f"### {run.path.name}: {run.task}, {run.algorithm}, seeds {', '.join(map(str, run.seeds))}", ""]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for name in [sampler.name for sampler in run.samplers]:
        its = counterpart(name)
        cells = [f"`{name}`", f"{statistics.mean(values(run, name, 'last')):.2f}"]
        cells += ["" if name == "uniform" else difference(run, name, "uniform", "last")]
        cells += ["" if its is None else difference(run, name, its, part) for part in PARTS_OF_A_CURVE]
        cells += ["" if its is None else equal(run, name, its, "last")]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them unless given")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.quick:
        require_apart(parser, options.results, "--results")
    for part in options.parts:
        require_name(part, PARTS, "part")
    set_up_jax()
    for part in options.parts or PARTS:
        task, samplers = PARTS[part]
        study = Study.create(
            options.runs / f"refresh-{part}",
            task=task,
            algorithm=TD3BC(hidden=(4,) if options.quick else (64, 64), alpha_bc=100.0),
            samplers=dict(list(samplers.items())[:3]) if options.quick else samplers,
            **(QUICK if options.quick else SIZE),
        )
        study.run()
        study.report()
        write_csv([study.folder], options.results / f"{study.folder.name}.csv")
    done = [run for part in PARTS if (run := options.runs / f"refresh-{part}").exists()]
    print(*[line for run in done for line in table(read_run(run))], sep="\n")


if __name__ == "__main__":
    main()
