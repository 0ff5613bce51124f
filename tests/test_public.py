"""What is public is listed once, is there, and shows itself in notebooks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import marline
from marline.display.notebook import html_table


def test_every_public_name_is_there_and_listed_once() -> None:
    assert sorted(marline._HOMES) == sorted(marline.__all__)
    assert len(set(marline.__all__)) == len(marline.__all__)
    for name in marline.__all__:
        assert getattr(marline, name) is not None
    assert set(marline.__all__) <= set(dir(marline))


def test_tables_of_notebooks_are_text() -> None:
    assert "<script>" not in html_table("<script>", ("<script>",), [("<script>",)])
    rows = {"observations": np.zeros((4, 2)), "actions": np.zeros((4, 1)), "rewards": np.ones(4)}
    logs = marline.from_arrays("<b>", {**rows, "terminals": np.arange(4) == 3}, source="<b>arm</b>")
    shown = logs._repr_html_()
    assert "&lt;b&gt;arm&lt;/b&gt;" in shown and "<b>" not in shown and "1 ended for good" in shown


def test_a_study_shows_where_it_is(tmp_path: Path) -> None:
    study = marline.Study.create(
        tmp_path / "run",
        task="cooperative-navigation-2",
        algorithm=marline.TD3BC(hidden=(4,)),
        samplers={"mine": marline.Uniform(batch_size=4)},
        seeds=1,
        dataset_size=40,
        offline_updates=2,
        updates=2,
        deployments=1,
        evaluation_episodes=2,
    )
    assert "not run yet" in study._repr_html_() and "1 seeds" in repr(study)
    told: list[str] = []
    study.run(progress=lambda share, text, updates: told.append(text))
    assert told and "not run yet" not in study._repr_html_()
    returns = study.returns
    assert list(returns["sampler"]) == ["mine", "mine"] and list(returns["deployment"]) == [0, 1]
    assert len(study.differences()) == 0
    again = marline.Study.open(tmp_path / "run").extend(seeds=2, samplers=["online-only"])
    assert again.notes == (
        f"{tmp_path / 'run'} gains the seeds 1",
        f"{tmp_path / 'run'} gains the samplers online-only",
    )
    again.run(progress=False)
    (pair,) = again.differences() if isinstance(again.differences(), np.ndarray) else again.differences().to_records()
    assert pair["sampler"] == "mine" and pair["minus"] == "online-only" and pair["seeds"] == 2
    assert again.difference("mine", "online-only").difference.mean == pair["mean"]
    assert again.report().exists()
