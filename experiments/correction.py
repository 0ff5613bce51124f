"""Does correcting logged rows to today's partners help? A suite of tasks, every sampler with its controls, ten seeds.

    python experiments/correction.py                                  # everything: hours on a core
    python experiments/correction.py matrix swap                      # some of the tasks
    python experiments/correction.py swap --leave-out otc-embedding   # without some samplers, and their controls
    python experiments/correction.py --only-tables                    # what the runs that are there come to
    python experiments/correction.py matrix --quick --runs /tmp/runs --results /tmp/results   # whether it works

Each task is a run directory under runs/, beside the logs that it learns from; what is there is not done again, and a
run gains the samplers and seeds that it lacks. What was published stays as it is, so that its pairs are of one machine,
and gains what the runs have besides; with --replace the runs count where both have a seed. results/ gets
`correction.csv` with every seed, where the numbers come from in `correction.json`, and the figure;
`experiments/verdicts.py` writes the tables into results/correction.md.

Nothing is tuned here: samplers are what their names stand for, and what a task is was fixed before it was run.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from correction_table import ADAPTIVE, ORACLE, OWN_CONTROLS, PRODUCT, RETURNS, SHARE, UNIFORM, draw, read, tables
from published import RESULTS, require_apart

from marline import Study
from marline.cli.commands.make import make
from marline.cli.options.data import Make
from marline.envs import Task, make_task
from marline.envs.finite import Finite
from marline.errors import ConfigError, require_name
from marline.report.records import Run, read_run
from marline.runtime import set_up_jax

SEEDS = tuple(range(10))  # fixed beforehand
DEPLOYMENTS = 3
SHARES = (0.05, 0.1, 0.25, 0.5, 0.75)
GATES = ("gate_open", "corrects")  # what samplers that ask whether anything changed call their answer
SETTINGS = ("algorithm", "rows_per_deployment", "offline_updates", "deployments", "updates", "evaluation_episodes")


class Case(NamedTuple):
    """A task of the suite.

    Attributes:
        task: as `marline list tasks` has it.
        logs: which logs `marline data make` makes.
        algorithm: what learns; its options are those of the catalogue but for `options`.
        options: and why, beside each case.
        random, best: mean return of random play, and the best known.
        rows: logged, of each agent; a deployment is a hundredth of them.
        offline_updates, updates: of each agent, before the first deployment and after each.
        exploration: how often an agent acts at random in its own turn of a deployment, as in 4.6 of the OTC paper.
    """

    task: str
    logs: str
    algorithm: str
    options: dict[str, Any]
    random: float
    best: float
    rows: int
    offline_updates: int
    updates: int
    exploration: float | None = None


# Choices: 0.1 of exploration. Scales are exact: random play, and the best that a team can do.
CHOICES: dict[str, Any] = {
    "algorithm": "cql",
    "options": {"alpha_cql": 0.1},
    "rows": 20_000,
    "offline_updates": 10_000,
    "updates": 1000,
    "exploration": 0.1,
}
# So little of CQL's conservatism that agent_1 takes to what earns more whatever agent_0 does, and stays there: a choice
# with a share b of the logs must gain alpha (1 / b - 1 / (1 - b)) / 2 over the other. In matrix it gains 0.2 at least
# (b = .1: alpha below .045), in swap 0.25 (b = .15: alpha below .09).
CHANGING: dict[str, Any] = CHOICES | {"options": {"alpha_cql": 0.01}}
# Of random play TD3+BC learns to stand still with its own alpha_bc of 2.5: see experiments/cooperative_navigation.py
OF_RANDOM_PLAY: dict[str, Any] = {
    "algorithm": "td3-bc",
    "options": {"alpha_bc": 100.0},
    "rows": 20_000,
    "offline_updates": 10_000,
    "updates": 1000,
}
OF_TEAMS: dict[str, Any] = OF_RANDOM_PLAY | {"options": {}}
# The paper's rows; a fifth of its offline updates, and half of its others, to be done on one core in two hours
OF_ROBOTS: dict[str, Any] = {
    "algorithm": "bcq",
    "options": {},
    "rows": 1_000_000,
    "offline_updates": 20_000,
    "updates": 2000,
}
CASES: dict[str, Case] = {
    "matrix": Case("matrix", "conventions", random=0.45, best=1.0, **CHANGING),
    "swap": Case("swap", "conventions", random=-9.6429, best=17.721, **CHANGING),
    # added when the runs of swap had shown that true weights turn agent_1 back: 1.25 is too near to the 1 of a step
    "swap-costly": Case("swap(cost=3)", "conventions", random=-27.143, best=17.721, **CHANGING),
    "pass": Case("pass", "conventions", random=0.0, best=35.296, **CHOICES),
    "meet": Case("meet", "conventions", random=0.7407, best=16.451, **CHOICES),
    "rare-payoff": Case("rare-payoff", "random", random=1.75, best=8.725, **CHOICES),
    # at its usual cost of 1.5, hardly more than the 1.41 from the corner, critics err, and agent_1 changes ever again
    "continuous-swap": Case("continuous-swap(cost=3)", "conventions", random=-45.60, best=-1.445, **OF_RANDOM_PLAY),
    "cooperative-navigation-4": Case("cooperative-navigation-4", "random", random=-112.0, best=-8.7, **OF_RANDOM_PLAY),
    "drifting-navigation": Case("drifting-navigation", "random", random=0.44, best=10.0, **OF_RANDOM_PLAY),
    # of 400 episodes each: random play, and past teams that act as well as they can
    "predator-prey-mixed": Case("predator-prey", "mixed", random=0.0, best=25.1, **OF_TEAMS),
    # D4RL's scale
    "halfcheetah-mixed": Case("halfcheetah-2x3", "mixed", random=-280.18, best=12135.0, **OF_ROBOTS),
    "halfcheetah-conventions": Case("halfcheetah-2x3", "conventions", random=-280.18, best=12135.0, **OF_ROBOTS),
    "predator-prey-conventions": Case("predator-prey", "conventions", random=0.0, best=25.1, **OF_TEAMS),
}
METHODS = {
    "two-sided": "two-sided",
    "two-sided-pooled": "two-sided(pooled=true)",  # added when swap-costly had shown what it is for
    "dynamics-ratio": "dynamics-ratio",
    # added when predator-prey-mixed had shown that weights can do harm, true ones too
    "kernel-ratio": "kernel-ratio",
    "best-ratio": "best-ratio",  # whichever of the last two foretells held-out episodes better
    "retarget": "retarget",
    "otc-value": "otc-value",
    "otc-embedding": "otc-embedding",
    ORACLE: ORACLE,
}
REFERENCES = (RETURNS, PRODUCT, "offline-only", ADAPTIVE)
QUICK = {"rows": 400, "offline_updates": 4, "updates": 4}
COLUMNS: Sequence[str] = ("task", "algorithm", "random", "best", "sampler", "seed", "deployment", "return", "corrects")


def samplers(task: Task, left_out: Sequence[str] = ()) -> list[str]:
    """As `--sampler` of `marline run` reads them: what is compared first goes first, methods with their controls.

    The oracle knows what partners do, so that an agent alone has none. Where places are counted, a mean of them is none
    of them, so that nothing is told anew.
    """
    senseless = {ORACLE: len(task.agents) < 2, "retarget": isinstance(task, Finite)}
    methods = {name: its for name, its in METHODS.items() if name not in left_out and not senseless.get(name, False)}
    shares = [f"{SHARE}{share}=fresh-share(share={share})" for share in SHARES]
    references = [one for one in (*REFERENCES, *shares) if one.partition("=")[0] not in left_out]
    controls = [OWN_CONTROLS.get(name, f"shuffled({name})") for name in methods]
    return [UNIFORM, *(f"{name}={its}" for name, its in methods.items()), *controls, *references]


def run_case(
    name: str, runs: Path, *, seeds: Sequence[int] = SEEDS, left_out: Sequence[str] = (), quick: bool = False
) -> Study:
    """Make the logs of a task, and compute what its run lacks."""
    case = CASES[name]._replace(**QUICK) if quick else CASES[name]
    logs = runs / "correction-logs" / name
    if not logs.exists():
        make(Make(f"{case.task}/{case.logs}", logs, size=case.rows))
    study = Study.create(
        runs / f"correction-{name}",
        task=case.task,
        algorithm=case.algorithm,
        algorithm_options=case.options,
        samplers=samplers(make_task(case.task), left_out),
        seeds=seeds,
        logs=logs,
        hidden=(4,) if quick else (64, 64),
        offline_updates=case.offline_updates,
        deployments=1 if quick else DEPLOYMENTS,
        updates=case.updates,
        sequential_exploration=case.exploration,
        evaluation_episodes=4 if quick else None,
    )
    return study.run()


def lines(name: str, run: Run) -> list[dict[str, str]]:
    """What a run came to: a row of `COLUMNS` per sampler, seed and deployment; of seeds that came to their end alone.

    `corrects` is for how many of the agents the sampler found that something had changed, where it asks, and
    that weights help, where it asks that too.
    """
    case, found = CASES[name], []
    for sampler in (its.name for its in run.samplers):
        for seed in run.seeds:
            gates = [run.diagnostic(sampler, seed, gate) for gate in GATES]
            powers = run.diagnostic(sampler, seed, "power")
            curve = run.curve(sampler, seed)
            for deployment, value in curve.items() if run.settings["deployments"] in curve else ():
                helps = {agent: power > 0 for agent, power in powers.get(deployment, {}).items()}
                its = [item for gate in gates for item in gate.get(deployment, {}).items()]
                opened = [opens * helps.get(agent, True) for agent, opens in its]
                corrects = sum(opened) / len(opened) if opened else ""
                row = (name, run.algorithm, case.random, case.best, sampler, seed, deployment, value, corrects)
                found.append(dict(zip(COLUMNS, map(str, row), strict=True)))
    return found


def provenance(run: Run) -> dict[str, Any]:
    """Where the numbers of a run come from, in words that hold anywhere."""
    starts = [{key: value for key, value in start.items() if value} for start in run.starts]
    for start in starts:
        start["command"] = re.sub(r" --(runs|results) \S+", "", start["command"])
    return {"seeds": list(run.seeds), "settings": {key: run.settings[key] for key in SETTINGS}, "starts": starts}


def write_tables(runs: Path, results: Path, *, replace: bool = False) -> None:
    """Every seed as a table, where it comes from, and the figure.

    Runs need not be on one machine: of a task with the same settings, samplers and seeds that are in the table stay
    there. Where both have a seed, what was published counts, or the run with `replace`.
    """
    table, sources = results / "correction.csv", results / "correction.json"
    rows, told = published(table, sources)
    for name in CASES:
        path = runs / f"correction-{name}"
        if not path.exists():
            continue
        run = read_run(path)
        new, source = lines(name, run), provenance(run)
        if not new:
            continue
        source["seeds"] = sorted({int(row["seed"]) for row in new})
        before = told.get(name, {})
        if name in rows and before.get("settings") == source["settings"]:
            first, then = (new, rows[name]) if replace else (rows[name], new)
            there = {(row["sampler"], row["seed"]) for row in first}
            more = [row for row in then if (row["sampler"], row["seed"]) not in there]
            places = list(dict.fromkeys(row["sampler"] for row in (*rows[name], *new)))
            new = sorted([*first, *more], key=lambda row: (places.index(row["sampler"]), int(row["seed"])))
            source["seeds"] = sorted({*source["seeds"], *before["seeds"]})
            source["starts"] = [*before["starts"], *(its for its in source["starts"] if its not in before["starts"])]
        rows[name], told[name] = new, source
    results.mkdir(parents=True, exist_ok=True)
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for name in (name for name in CASES if name in rows):
            writer.writerows(rows[name])
    sources.write_text(json.dumps({name: told[name] for name in CASES if name in told}, indent=1) + "\n", "utf-8")
    (results / "correction.svg").write_text(draw(read(table)), "utf-8")


def published(table: Path, sources: Path) -> tuple[dict[str, list[dict[str, str]]], dict[str, Any]]:
    """The rows of each task in a table that is there, and where they come from."""
    rows: dict[str, list[dict[str, str]]] = {}
    if table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["task"], []).append(row)
    return rows, json.loads(sources.read_text("utf-8")) if sources.exists() else {}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"{', '.join(CASES)}; all of them unless given")
    parser.add_argument("--leave-out", nargs="*", default=(), metavar="SAMPLER", help="and its control")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="the first so many of them")
    parser.add_argument("--only-tables", action="store_true", help="compute nothing")
    parser.add_argument("--replace", action="store_true", help="published seeds by those of the runs")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.quick:
        require_apart(parser, options.results, "--results")
    for task in options.tasks:
        require_name(task, CASES, "task of the suite")
    set_up_jax()
    for task in () if options.only_tables else options.tasks or CASES:
        seeds = SEEDS[: min(options.seeds, 2) if options.quick else options.seeds]
        run_case(task, options.runs, seeds=seeds, left_out=options.leave_out, quick=options.quick)
        write_tables(options.runs, options.results, replace=options.replace)
    write_tables(options.runs, options.results, replace=options.replace)
    print(*tables(read(options.results / "correction.csv")), sep="\n")


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
