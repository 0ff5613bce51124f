"""All that was measured as one tidy table, for pandas: a row per sampler, seed, deployment, agent and quantity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marline.data.files import write_atomically
from marline.data.formats.optional import require_package
from marline.errors import ConfigError
from marline.report.records import Run, read_run
from marline.report.tables import DIAGNOSTICS

COLUMNS = ("run", "task", "algorithm", "sampler", "seed", "deployment", "agent", "quantity", "value")


def columns(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The table by column; of what is the whole team's, `agent` is None."""
    rows = [row for run in runs for row in _rows(run)]
    return {name: [row[place] for row in rows] for place, name in enumerate(COLUMNS)}


def _rows(run: Run) -> list[tuple[Any, ...]]:
    rows = []
    for sampler, seed in run.lines:
        where = (run.path.name, run.task, run.algorithm, sampler, seed)
        for name in ("return", "return_in_last_world"):
            curve = run.curve(sampler, seed, name)
            rows += [(*where, deployment, None, name, value) for deployment, value in curve.items()]
        for name in DIAGNOSTICS:
            for deployment, agents in run.diagnostic(sampler, seed, name).items():
                rows += [(*where, deployment, agent, name, value) for agent, value in agents.items()]
    return rows


def require_parquet(path: Path) -> None:
    """`ConfigError` unless a Parquet table can be written under this name."""
    if path.suffix.lower() != ".parquet":
        raise ConfigError(f"{path} does not end in .parquet, which pandas.read_parquet reads; rename it")
    require_package("pyarrow", "Parquet tables", "data")


def write_parquet(runs: Sequence[Path], path: Path) -> Path:
    """Write the table of runs, with names in dictionaries, as pandas' categories are.

    Raises:
        ConfigError: `path` does not end in .parquet, or pyarrow is not installed.
    """
    require_parquet(path)
    pa = require_package("pyarrow", "Parquet tables", "data")
    parquet = require_package("pyarrow.parquet", "Parquet tables", "data")
    found = columns([read_run(run) for run in runs])
    name, whole = pa.dictionary(pa.int32(), pa.string()), pa.int64()
    kinds = {"seed": whole, "deployment": whole, "value": pa.float64()}
    table = pa.table({column: pa.array(values, kinds.get(column, name)) for column, values in found.items()})
    write_atomically(path, lambda place: parquet.write_table(table, place))
    return path
