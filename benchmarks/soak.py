"""One campaign of some hundred deployments: whether what a deployment takes grows with those before it.

Two agents of Cooperative Navigation, TD3+BC with small networks under OTC. One process keeps the campaign open: plays
the policies, exports them, brings in the logs, of which no two deployments have as many rows, and tunes. A line per
deployment of a CSV file tells CPU seconds, bytes read and written, compiled programs, memory, open handles and the size
of the run directory; now and then also the CPU seconds of `status`, `verify` and of opening the campaign anew. Given a
folder, it goes on where it was stopped. Linux.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import interleave
import jax

from marline.algorithms import TD3BC
from marline.campaign.campaign import Campaign
from marline.campaign.status import status
from marline.data.dataset import Dataset
from marline.envs import CooperativeNavigation
from marline.report.appearance import COLORS, Look
from marline.report.chart import Axis, Chart, Mark
from marline.report.svg import Panel, Row, legend, place, sheet
from marline.rollouts.collection import collect_random
from marline.runs.verify import verify
from marline.samplers import OTC

COLUMNS: Sequence[str] = (
    *("deployment", "play_s", "export_s", "tune_s", "read_kib", "written_kib", "compiled"),
    *("resident_mib", "handles", "threads", "folder_mib", "ledger_kib", "checkpoint_list_kib"),
    *("status_s", "verify_s", "open_s"),
)
SECONDS = ("play_s", "export_s", "tune_s")
RARELY = ("status_s", "verify_s", "open_s")
LABELS = {
    **{f"{name}_s": name for name in ("play", "export", "tune", "status", "verify", "open")},
    **{"read_kib": "read", "written_kib": "written", "resident_mib": "memory", "folder_mib": "run directory"},
}
COMPILATION = "/jax/core/compile/backend_compile_duration"


class Meter:
    """What this process has used so far."""

    def __init__(self) -> None:
        self.compiled = 0
        jax.monitoring.register_event_duration_secs_listener(self._count)

    def _count(self, event: str, duration_secs: float, **_: Any) -> None:
        self.compiled += event == COMPILATION

    @staticmethod
    def moved() -> tuple[float, float]:
        """KiB read and written by system calls so far, whether a disk was needed or not."""
        found = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(found["rchar"]) / 1024, int(found["wchar"]) / 1024

    @staticmethod
    def held() -> dict[str, float]:
        """Memory, handles and threads now."""
        found = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return {
            "resident_mib": int(found["VmRSS"].split()[0]) / 1024,
            "handles": len(os.listdir("/proc/self/fd")),
            "threads": int(found["Threads"]),
        }


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and what came out."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def open_campaign(folder: Path, options: argparse.Namespace) -> Campaign:
    if (folder / "run.json").exists():
        return Campaign.open(folder)
    campaign = Campaign.create(
        folder,
        collect_random(CooperativeNavigation(2), options.rows, seed=0),
        algorithm=TD3BC(hidden=(options.hidden, options.hidden)),
        sampler=OTC("value"),
        deployments=options.deployments,
        offline_updates=options.updates,
        updates=options.updates,
        rows_per_deployment=options.rows_per_deployment,
    )
    campaign.train()
    return campaign


def soak(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, float]]:
    """A line of measurements per deployment that is still to come."""
    task, meter, campaign = CooperativeNavigation(2), Meter(), open_campaign(folder, options)
    while campaign.number < options.deployments:
        compiled, (read, written) = meter.compiled, meter.moved()
        play_s, logs = seconds(partial(campaign.deploy, task))
        logs = {agent: cut(log, campaign.number) for agent, log in logs.items()}
        export_s, _ = seconds(campaign.export)
        tune_s, _ = seconds(partial(campaign.tune, logs))
        now = meter.moved()
        line: dict[str, float] = {"deployment": campaign.number, "play_s": play_s, "export_s": export_s}
        line |= {"tune_s": tune_s, "read_kib": now[0] - read, "written_kib": now[1] - written}
        line |= {"compiled": meter.compiled - compiled, **meter.held(), **sizes(folder, campaign)}
        if campaign.number % options.every == 0 or campaign.number == options.deployments:
            line |= {"status_s": seconds(partial(status, folder))[0], "verify_s": seconds(partial(verify, folder))[0]}
            line["open_s"] = seconds(partial(Campaign.open, folder))[0]
        yield line


def cut(log: Dataset, number: int) -> Dataset:
    """Without some of the last rows, each time others: robots are stopped when it suits."""
    num_rows = len(log) - number % (len(log) // 2)
    columns = {key: column[:num_rows].copy() for key, column in log.columns().items()}
    columns["timeouts"][-1] = not columns["terminals"][-1]
    return dataclasses.replace(log, **columns)


def sizes(folder: Path, campaign: Campaign) -> dict[str, float]:
    whole = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    lists = folder.glob(f"seed-0/*/checkpoint-*{campaign.number}/manifest.json")
    return {
        "folder_mib": whole / 2**20,
        "ledger_kib": (folder / "ledger.sqlite").stat().st_size / 1024,
        "checkpoint_list_kib": max((path.stat().st_size for path in lists), default=0) / 1024,
    }


def read(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(text) for name, text in line.items() if text} for line in csv.DictReader(file)]


def append(path: Path, line: Mapping[str, float]) -> None:
    """Add a line to the table, which is made if it is not there."""
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow({name: f"{value:.6g}" for name, value in line.items()})


def growth(lines: Sequence[Mapping[str, float]]) -> list[list[str]]:
    """Of each column, its mean over the first and the last fifth of the deployments; the first one compiles."""
    rows = []
    for name in COLUMNS[1:]:
        known = [line[name] for line in lines[1:] or lines if name in line]
        few = max(1, len(known) // 5)
        first, last = (sum(part) / few for part in (known[:few], known[-few:]))
        rows.append([name, f"{first:.4g}", f"{last:.4g}", f"{last / first:.2f}" if first else ""])
    return rows


def draw(lines: Sequence[Mapping[str, float]]) -> str:
    """What a deployment takes, and what there is after it."""
    rows = (
        (("CPU seconds of a deployment", SECONDS), ("KiB of a deployment", ("read_kib", "written_kib"))),
        (("memory, MiB", ("resident_mib",)), ("run directory, MiB", ("folder_mib",))),
        (("open handles and threads", ("handles", "threads")), ("CPU seconds of commands", RARELY)),
    )
    names = [name for row in rows for _, its in row for name in its]
    colors = list(COLORS.values())
    looks = {
        name: Look(order, LABELS.get(name, name), *colors[order % len(colors)], "circle", "solid")
        for order, name in enumerate(names)
    }
    body, top = legend([(look, look.label) for look in looks.values()])
    for row in rows:
        panels = []
        for title, its in row:
            marks = []
            for name in its:
                known = [line for line in lines[1:] or lines if name in line]  # the first one compiles
                x, y = [line["deployment"] for line in known], [line[name] for line in known]
                marks.append(Mark(x, y, look=looks[name]))
            panels.append(Panel(title, Chart("", "", marks, Axis("deployment"), Axis(from_zero=True))))
        body += place(Row(panels, 2, 210.0), top)
        top += 214
    return sheet("A campaign of many deployments", body, top, looks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deployments", type=int, default=300)
    parser.add_argument("--rows", type=int, default=20_000, help="offline")
    parser.add_argument("--rows-per-deployment", type=int, default=200)
    parser.add_argument("--updates", type=int, default=50, help="per deployment, and offline")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument(
        "--every", type=int, default=20, help="deployments between two looks at status, verify and open"
    )
    parser.add_argument("--run", type=Path, help="run directory; what is there already is gone on with")
    parser.add_argument("--out", type=Path, help="folder for soak.csv and soak.svg")
    parser.add_argument("--quick", action="store_true", help="a small version")
    options = parser.parse_args()
    if options.quick:
        options.deployments, options.rows, options.updates, options.hidden, options.every = 3, 1000, 5, 8, 2
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) if options.out is None else options.out
        out.mkdir(parents=True, exist_ok=True)
        for line in soak(Path(scratch, "run") if options.run is None else options.run, options):
            append(out / "soak.csv", line)
        lines = read(out / "soak.csv")
        (out / "soak.svg").write_text(draw(lines), "utf-8")
    interleave.print_table(["", "first fifth", "last fifth", "ratio"], growth(lines))


if __name__ == "__main__":
    main()
