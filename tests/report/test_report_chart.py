"""What charts span and say: numbers computed by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from marline.report import write_figure
from marline.report.appearance import looks
from marline.report.chart import Axis, Cells, Chart, Mark, Scale, horizontal, round_step, ticks_within, vertical
from marline.report.chart_svg import draw, figure
from marline.report.figures import diagnostic_chart, difference_chart
from marline.report.records import read_run

SVG = "{http://www.w3.org/2000/svg}"
WriteRun = Callable[..., Path]
WHOLE = Axis("deployment", whole=True)


def chart(y: Sequence[float], axis: Axis | None = None) -> Chart:
    return Chart("title", "", [Mark([float(x) for x in range(len(y))], y)], WHOLE, axis or Axis())


def test_a_scale_goes_from_values_to_places() -> None:
    assert [Scale(-1.0, 3.0, 100.0, 20.0)(value) for value in (-1.0, 0.0, 3.0)] == [100.0, 80.0, 20.0]
    assert [Scale(0.01, 100.0, 0.0, 40.0, log=True)(value) for value in (0.01, 1.0, 100.0)] == [0.0, 20.0, 40.0]


def test_ticks_are_round_values_within() -> None:
    assert [round_step(rough) for rough in (1.0, 1.1, 3.0, 7.0, 0.03)] == [1.0, 2.0, 5.0, 10.0, 0.05]
    assert ticks_within(-88.1, -79.8, 6) == [-88.0, -86.0, -84.0, -82.0, -80.0]
    _, ticks = vertical(chart([0.0, 0.07], Axis(from_zero=True)), 100.0, 0.0)
    assert [text for _, text in ticks] == ["0.00", "0.02", "0.04", "0.06"]


@pytest.mark.parametrize(
    "values, axis, span",
    [
        (
            [100.0, 100.2],
            Axis(),
            (94.59, 105.61),
        ),  # a tenth of 100.2, around the middle, and a twentieth beyond
        ([0.0, 40.0], Axis(from_zero=True), (0.0, 42.0)),  # the floor stays at 0
        ([0.1, -0.1], Axis(zero_line=True, least_span=2.0), (-1.1, 1.1)),
        ([0.0, 0.0], Axis(), (-0.55, 0.55)),
        ([5.0, 5.0], Axis(covers=(0.0, 10.0)), (-0.5, 10.5)),
    ],
)
def test_noise_does_not_fill_an_axis(values: list[float], axis: Axis, span: tuple[float, float]) -> None:
    scale, ticks = vertical(chart(values, axis), 100.0, 0.0)
    assert (scale.low, scale.high) == pytest.approx(span, abs=0.02)
    assert len(ticks) >= 3


def test_labels_have_room() -> None:
    of_eleven = chart([0.0] * 11)
    assert [text for _, text in horizontal(of_eleven, 0.0, 300.0)[1]] == [str(k) for k in range(11)]
    assert [text for _, text in horizontal(of_eleven, 0.0, 120.0)[1]] == ["0", "2", "4", "6", "8", "10"]


def test_what_was_measured_once_is_said_in_numbers(write_run: WriteRun, tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", seeds=(0,), deployments=1))
    alpha = diagnostic_chart(run, looks([run]), "Exponent alpha", "alpha", per_agent=True)
    assert alpha is not None and alpha.is_single
    shown = figure("key", alpha, "")
    assert shown.picture is None and not shown.told
    assert [value.name for value in shown.values] == ["OTC (value)"]
    first, second = (float(run.diagnostic("otc-value", 0, "alpha")[1][f"agent_{place}"]) for place in (0, 1))
    assert float(shown.values[0].text) == pytest.approx((first + second) / 2, abs=0.01)
    assert shown.agents == f"agent_0 {first:.3g} · agent_1 {second:.{2 if second >= 1 else 3}f}"


def test_differences_span_what_counts_as_equal(write_run: WriteRun, tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", noise=0.0, gains={}, start=-100.0))
    found = difference_chart(run, looks([run]))
    assert found is not None
    assert found.y.least_span == pytest.approx(4.0, rel=0.05)  # 2 % of 100, to either side


def test_every_shape_is_drawn_within_the_box() -> None:
    bars = Mark([1.0, 2.0], [3.0, 4.0], "bars", name="taken")
    dots = Mark([1.0, 2.0], [2.0, 1.0], "dots", name="allowed", series=1)
    steps = Mark([0.5, 1.5, 2.5], [1.0, 2.0], "steps", name="stairs", series=2)
    drawing = draw(Chart("", "", [bars, dots, steps], Axis("action"), Axis(from_zero=True)), 340.0, 220.0)
    root = ElementTree.fromstring(f"<svg>{''.join(drawing.parts)}</svg>")
    left, top, right, bottom = drawing.told["box"]
    for x, y in (
        map(float, pair.split(",")) for line in root.iter("polyline") for pair in line.attrib["points"].split()
    ):
        assert left <= x <= right and top <= y <= bottom
    told = {row["name"]: row["t"] for row in drawing.told["rows"]}
    assert told == {"taken": ["3.00", "4.00"], "allowed": ["2.00", "1.00"], "stairs": ["1.00", "2.00"]}
    cells = Cells([0.0, 1.0, 2.0], [0.0, 1.0], [[1.0, None]])
    paths = draw(Chart("", "", [], Axis(), Axis(), cells), 340.0, 220.0).parts
    assert sum('class="cells' in part for part in paths) == 1


def test_more_than_six_curves_become_small_multiples(write_run: WriteRun, tmp_path: Path) -> None:
    otc = {"type": "OTC", "distance": "value"}
    samplers = {"uniform": {"type": "Uniform"}, **{f"s{place}": otc for place in range(3)}}
    samplers |= {f"c{place}": {"type": "OnlineMatched", "matches": f"s{place}"} for place in range(3)}
    path = write_run(tmp_path / "run", samplers=samplers, seeds=(0, 1), deployments=3)
    root = ElementTree.parse(write_figure([path], tmp_path / "figure.svg")).getroot()
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert [texts.count(f"s{place}") for place in range(3)] == [2, 2, 2]  # returns, and differences
    assert "its matched control" in texts
    panels = [
        one for one in root.iter("{http://www.w3.org/2000/svg}g") if "translate" in one.attrib.get("transform", "")
    ]
    scales = [
        [tick.text for tick in panel.iter("{http://www.w3.org/2000/svg}text") if tick.get("text-anchor") == "end"]
        for panel in panels
    ]
    assert len(panels) == 6 and scales[0] == scales[1] == scales[2] and scales[3] == scales[4] == scales[5]
