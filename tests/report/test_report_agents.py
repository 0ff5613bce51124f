"""Returns of agents beside the team's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from marline.report import headlines, summary_table, write_agent_returns, write_report, write_summary
from marline.report.agent_returns import rows, whose
from marline.report.appearance import looks
from marline.report.records import read_run

WriteRun = Callable[..., Path]
SMALL = {"samplers": {"uniform": {"type": "Uniform", "rows": "merged", "batch_size": 128}}, "deployments": 1}


def test_a_run_tells_whose_its_returns_are(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    path = write_run(tmp_path / "run", seeds=(0, 1), **SMALL)
    assert whose(read_run(path)) == ""  # of an older marline
    assert write_agent_returns([path], tmp_path / "a.csv") is None
    for seed in (0, 1):
        for deployment in (0, 1):
            change_line(path, seed, "uniform", deployment, agent_returns={})
    assert whose(read_run(path)) == "one reward for all agents"
    assert "return: one reward for all agents" in write_report([path], tmp_path / "page.html").read_text()
    for seed in (0, 1):
        for deployment in (0, 1):
            its = {"agent_0": 10.0 * deployment + seed, "agent_1": -5.0}
            change_line(path, seed, "uniform", deployment, agent_returns=its)
    run = read_run(path)
    assert whose(run) == "mean over 2 agents"
    assert [row[1:] for row in rows(run, looks([run]))] == [
        ("agent_0", "0.5 ± 0.5", "10.5 ± 0.5", 1),
        ("agent_1", "−5.0 ± 0.0", "−5.0 ± 0.0", 1),
    ]
    assert headlines([path])[0].endswith("Returns are the mean over 2 agents.")
    (row,) = summary_table([path])
    assert row["return_is"] == "mean over 2 agents"
    assert row["agent_returns"] == {"agent_0": [10.0, 11.0], "agent_1": [-5.0, -5.0]}
    page = write_report([path], tmp_path / "page.html").read_text()
    assert "What each agent returned" in page and "10.5 ± 0.5" in page and "Return of each agent" in page
    assert "agent\\_0 | 0.5 ± 0.5 | 10.5 ± 0.5 |" in write_summary([path], tmp_path / "s.md").read_text()
    table = write_agent_returns([path], tmp_path / "agents.csv")
    assert table is not None
    assert table.read_text().splitlines()[1:3] == [
        "run,made-up-navigation,TD3BC,uniform,0,0,agent_0,0.0",
        "run,made-up-navigation,TD3BC,uniform,0,0,agent_1,-5.0",
    ]
