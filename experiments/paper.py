"""The OTC paper's tables and figures, each by one command: logs, studies, numbers, figure and a page with verdicts.

    python experiments/paper.py fig-6c                                    # one of them, 5 seeds as in the paper
    python experiments/paper.py table-1 --only bcq-halfcheetah-random     # some of its cells
    python experiments/paper.py table-1 --data ~/d4rl                     # with halfcheetah-random-v2.hdf5 and others
    python experiments/paper.py fig-7 --seeds 10 --also otc-value         # more seeds, and a sampler of marline's own
    python experiments/paper.py --prices                                  # what has not been run, and what it takes
    python experiments/paper.py fig-6c --quick --runs /tmp/runs --out /tmp/results   # whether it works

It goes on where it was interrupted. A cell is a run directory under --runs, which items share; it gains the samplers
and seeds that it lacks. Logs are those in --data under the name that D4RL gives them, or TASK-KIND; otherwise they
are made, are like them, and are called so. Into --out go `paper-ITEM.csv` with every seed, `.json` with where it comes
from, `.svg` and `.md`.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import re
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import paper_table
from paper_items import DEPLOYMENTS, ITEMS, OFFLINE_UPDATES, Cell, Item
from published import RESULTS, require_apart

from marline import Study
from marline.agent import AgentState, begin_deployment, tune
from marline.algorithms import BCQ
from marline.cli.commands.make import make
from marline.cli.options.data import Make
from marline.configuration.selection import select_samplers
from marline.data.decentralize import import_log
from marline.data.experience import Experience
from marline.data.formats import open_log
from marline.data.provenance import start
from marline.envs import make_task
from marline.errors import ConfigError, require_name
from marline.population import map_learners
from marline.report.records import Run, read_run
from marline.runtime import choose_device, set_up_jax
from marline.types import Spec, Transition

SEEDS = 5  # as in the paper
QUICK_ROWS, QUICK_UPDATES = 400, 4
SETTINGS = ("rows_per_deployment", "offline_updates", "deployments", "updates", "evaluation_episodes")
ROUNDS, UPDATES, WARM_UP = 10, 1000, 100  # of Table 2
CPU_ROUNDS, CPU_UPDATES = 5, 200  # of the same on a CPU, where d_q takes long


def logs_of(cell: Cell, runs: Path, data: Path | None, *, quick: bool = False) -> tuple[Path, str]:
    """The folder with the logs of a cell, made where it is not there, and what they are."""
    kind, rows, name = cell.logs, cell.rows, cell.d4rl or f"{cell.task}-{cell.logs}"
    for given in (data / f"{name}{end}" for end in ("", ".hdf5", ".npz", ".parquet")) if data is not None else ():
        if (given / "dataset.json").exists():
            return given, name
        if given.is_file():
            made = runs / "logs" / name
            if not made.exists():
                import_log(open_log(given), made, specs=make_task(cell.task).specs)
            return made, name
    if quick:
        rows, kind = QUICK_ROWS, "random" if cell.logs == "medium-replay" else cell.logs
    name = f"{cell.task}-{kind}-like"
    made = runs / "logs" / name
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        # of a replay buffer there is as much as there is
        make(Make(f"{cell.task}/{kind}", made, size=None if kind == "medium-replay" else rows))
    return made, name


def run_cell(
    item: Item,
    cell: Cell,
    runs: Path,
    *,
    seeds: Sequence[int],
    data: Path | None = None,
    also: Sequence[str] = (),
    quick: bool = False,
) -> str:
    """Compute what the run of a cell lacks; returns what its logs are."""
    logs, name = logs_of(cell, runs, data, quick=quick)
    samplers = [*item.samplers, *(text for one in also for text in (one, f"shuffled({one})"))]
    small: dict[str, Any] = {}
    if quick:
        small = {"hidden": (4,), "evaluation_episodes": 1}  # a robot's takes a thousand steps
        small |= {"sampler_options": {"num_updates": 4}} if any("embedding" in one for one in samplers) else {}
    options = dict(cell.options) | ({"cloning_updates": 2} if quick and cell.algorithm == "bremen" else {})
    study = Study.create(
        runs / cell.name,
        task=cell.task,
        algorithm=cell.algorithm,
        algorithm_options=options,
        samplers=samplers,
        seeds=seeds,
        logs=logs,
        offline_updates=QUICK_UPDATES if quick else OFFLINE_UPDATES,
        deployments=1 if quick else DEPLOYMENTS,
        updates=QUICK_UPDATES if quick else cell.updates,
        sequential_exploration=cell.exploration,
        **small,
    )
    study.run()
    return name


def write_item(item: Item, runs: Path, results: Path) -> None:
    """Numbers, provenance, figure and page of all cells of an item that have been run, of the seeds that have ended."""
    there = {cell.name: read_run(path) for cell in item.cells if (path := runs / cell.name).exists()}
    if not there:
        return
    named = select_samplers(item.samplers).samplers  # other items' are in the same runs
    rows, told = [], {}
    for name, run in there.items():
        shown = [one.name for one in run.samplers if _belongs(one.name, named)]
        its = _returns(name, run, shown)
        rows += its
        told[name] = _provenance(run, sorted({row[4] for row in its}))
    _write_csv(results / f"{item.stem}.csv", paper_table.COLUMNS, rows)
    if item.per_agent:
        agents = [row for name, run in there.items() for row in _per_agent(name, run, item.per_agent)]
        _write_csv(results / f"{item.stem}-{item.per_agent}.csv", paper_table.AGENT_COLUMNS, agents)
    _finish(item, results, told)


def _belongs(name: str, named: Iterable[str]) -> bool:
    """Whether a sampler of a run is one of the item: its own, or one of `--also`, which ends in no "-paper"."""
    plain = {one.removesuffix(paper_table.LETTER) for one in named}
    return name in named or name in plain or name == "frozen"


def _returns(name: str, run: Run, samplers: Sequence[str]) -> list[tuple[Any, ...]]:
    """Of the seeds that have got to the last deployment."""
    return [
        (name, run.task, run.algorithm, sampler, seed, deployment, value)
        for sampler in samplers
        for seed in run.seeds
        if run.num_deployments in run.curve(sampler, seed)
        for deployment, value in sorted(run.curve(sampler, seed).items())
    ]


def _per_agent(name: str, run: Run, quantity: str) -> list[tuple[Any, ...]]:
    """Of the sampler to the letter, whose exponent adapts."""
    return [
        (name, sampler.name, seed, deployment, agent, value)
        for sampler in run.samplers
        if sampler.name.endswith(paper_table.LETTER) and sampler.kind == "otc"
        for seed in run.seeds
        for deployment, values in sorted(run.diagnostic(sampler.name, seed, quantity).items())
        for agent, value in values.items()
    ]


def _provenance(run: Run, seeds: Sequence[int]) -> dict[str, Any]:
    """Where the numbers of these seeds of a run come from, in words that hold anywhere."""
    starts = [{key: value for key, value in one.items() if value} for one in run.starts]
    for one in starts:
        one["command"] = re.sub(r" --(runs|out|data) \S+", "", one["command"])
    settings = {key: run.settings[key] for key in SETTINGS}
    made = run.dataset.get("provenance", {}).get("source", "")
    return {"seeds": list(seeds), "settings": settings, "logs": Path(made).name, "starts": starts}


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _finish(item: Item, results: Path, told: dict[str, Any]) -> None:
    """What is made of the table: provenance, figure and page."""
    (results / f"{item.stem}.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    (results / f"{item.stem}.svg").write_text(paper_table.draw(results, item), "utf-8")
    page = results / f"{item.stem}.md"
    text = page.read_text("utf-8") if page.exists() else paper_table.page(item)  # what was written there stays
    for kind in ("cells", "provenance"):
        table = "\n".join(paper_table.table(results, f"{kind} {item.name}"))
        mark = f"<!-- from {item.stem}.csv: paper {kind} {item.name} -->"
        text = re.sub(
            re.escape(mark) + r".*?<!-- end -->", lambda _, m=mark, t=table: f"{m}\n{t}\n<!-- end -->", text, flags=re.S
        )
    page.write_text(text, "utf-8")


def time_updates(item: Item, results: Path, *, quick: bool = False) -> None:
    """Table 2: time of one update, all samplers in turn, round by round.

    On an accelerator it is time on the wall, on a CPU that of the process: there others may be at work.
    """
    (cell,) = item.cells
    task = make_task(cell.task)
    agent = task.agents[0]
    on_cpu = jax.default_backend() == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    rounds, updates = (2, 2) if quick else (CPU_ROUNDS, CPU_UPDATES) if on_cpu else (ROUNDS, UPDATES)
    offline = QUICK_ROWS if quick else 100_000  # which no time depends on
    experience = _noise(task.specs[agent], offline, max(1, cell.rows // 100 if not quick else QUICK_ROWS // 100))
    algorithm = BCQ(hidden=(4,)) if quick else BCQ()
    learner = jax.jit(algorithm.init)(experience, key=jax.random.key(0))
    named = select_samplers(item.samplers, options={"num_updates": 2}, hidden=algorithm.hidden).samplers
    states = {}
    for name, sampler in named.items():
        memory = jax.jit(sampler.init)(experience, key=jax.random.key(1))
        state = AgentState(learner, memory, experience)
        begin = jax.jit(functools.partial(begin_deployment, algorithm=algorithm, sampler=sampler))
        states[name] = state._replace(sampler=begin(state, jax.random.key(2))[0])

    def run(name: str, num_updates: int) -> float:
        static = {"algorithm": algorithm, "sampler": named[name], "num_updates": num_updates}
        began = clock()
        key = {0: jax.random.key(3)}
        jax.block_until_ready(map_learners(tune, {0: states[name]}, key, key, {0: jnp.int32(0)}, static=static))
        return 1e3 * (clock() - began) / num_updates

    for name in named:
        run(name, updates)  # compiles
        run(name, updates if quick else WARM_UP)
    rows = []
    for number in range(rounds):
        for name in named:
            rows.append((cell.name, cell.task, "BCQ", name, number, 1, run(name, updates)))
    _write_csv(results / f"{item.stem}.csv", paper_table.COLUMNS, rows)
    settings = {
        "clock": "CPU time" if on_cpu else "time on the wall",
        "rounds": rounds,
        "updates per round": updates,
        "offline rows": offline,
    }
    begun = {key: value for key, value in start().items() if value}
    begun["command"] = re.sub(r" --(runs|out|data) \S+", "", begun["command"])
    _finish(
        item,
        results,
        {cell.name: {"seeds": list(range(rounds)), "settings": settings, "logs": "noise", "starts": [begun]}},
    )
    for name in named:
        print(f"{name}: {statistics.median(row[-1] for row in rows if row[3] == name):.3f} ms per update")


def _noise(spec: Spec, num_offline: int, num_online: int) -> Experience:
    """An agent's experience after one deployment, of noise."""
    rng = np.random.default_rng(0)

    def rows(num: int) -> Transition:
        states = rng.normal(size=(2, num, spec.observation_size)).astype("f4")
        action = rng.uniform(-1, 1, (num, spec.action_size)).astype("f4")
        reward = rng.normal(size=num).astype("f4")
        return Transition(*map(jnp.asarray, (states[0], action, reward, np.ones(num, "f4"), states[1])))

    offline = Experience.create(rows(num_offline), spec, num_deployments=1, rows_per_deployment=num_online)
    return offline.merge(rows(num_online), 1)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=", ".join(ITEMS))
    parser.add_argument("--only", nargs="+", default=(), metavar="CELL", help="of its cells; --prices names them")
    parser.add_argument("--seeds", type=int, help=f"{SEEDS} unless given")
    parser.add_argument("--also", nargs="+", default=(), metavar="SAMPLER", help="more, each with its shuffled control")
    parser.add_argument("--data", type=Path, help="folder with logs that are there already")
    parser.add_argument("--device", choices=("cpu", "gpu"), help="the best there is unless given")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--only-tables", action="store_true", help="compute nothing")
    parser.add_argument("--prices", action="store_true", help="what was not run, and what it takes")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.quick:
        require_apart(parser, options.out, "--out")
    cells = [cell.name for name in options.items if name in ITEMS for cell in ITEMS[name].cells]
    for name in options.items:
        require_name(name, ITEMS, "table or figure")
    for name in options.only:
        require_name(name, cells, f"cell of {', '.join(options.items)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.prices:
        print(*paper_table.price_table(options.out), sep="\n")
        return 0
    choose_device(options.device)
    set_up_jax()
    lacking = 0
    for item in (ITEMS[name] for name in options.items):
        if item.unit == "overhead":
            if not options.only_tables:
                time_updates(item, options.out, quick=options.quick)
            continue
        cells = [cell for cell in item.cells if not options.only or cell.name in options.only]
        for cell in () if options.only_tables else cells:
            seeds = range(options.seeds or (2 if options.quick else SEEDS))
            try:
                run_cell(
                    item, cell, options.runs, seeds=seeds, data=options.data, also=options.also, quick=options.quick
                )
            except ConfigError as error:  # the other cells can be run
                print(f"{cell.name} was not run: {error}", file=sys.stderr)
                lacking += 1
            write_item(item, options.runs, options.out)
        write_item(item, options.runs, options.out)
        print(*paper_table.table(options.out, f"cells {item.name}"), sep="\n")
    return 1 if lacking else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConfigError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
