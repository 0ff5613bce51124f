"""The page: one file, safe to open, and drawn without an error."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marline.ops.distance_bins import EDGES, NUM_BINS
from marline.report import write_report
from marline.report.appearance import COLORS, INK, looks, number, shorten, three_figures
from marline.report.histograms import distance_charts
from marline.report.records import read_run

WriteRun = Callable[..., Path]
HOSTILE = '"><img src=x onerror=alert(1)>\n&amp;%{y}`|'
OTC = {"type": "OTC", "distance": "value"}
CONTROL = "http://127.0.0.1:9/control"  # asked for by the harness, to see that requests are seen
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag if tag in {"script", "style"} else ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif self.inside != "style":
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(text for text in self.texts if text)

    @property
    def data(self) -> dict[str, Any]:
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == "data")


def page_of(tmp_path: Path, *runs: Path) -> Page:
    return Page(write_report(runs, tmp_path / "report.html").read_text("utf-8"))


def test_the_distances_of_every_agent_are_drawn(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", samplers={"otc-value": OTC}, seeds=(0, 1), deployments=3)
    assert "Distances of" not in page_of(tmp_path, run).text
    for seed in (0, 1):
        for deployment in (1, 2, 3):
            counts = [0] * NUM_BINS
            counts[20 + deployment] = 30
            counts[25] = 10
            broken = [counts, counts[:-1], [0.5] * NUM_BINS, {"a": 1}][deployment if seed else 0]
            agents = {"agent_0": {"distance_histogram": counts}, "agent_1": {"distance_histogram": broken}}
            change_line(run, seed, "otc-value", deployment, agents=agents)
    page = page_of(tmp_path, run)
    assert "Distances of agent_0" in page.text and "Distances of agent_1" in page.text
    first, second = distance_charts(read_run(run), looks([read_run(run)]))
    for chart in (first, second):  # what is malformed is left out, and the other seed is there
        assert [mark.detail for mark in chart.marks] == [f"deployment {k}" for k in (1, 2, 3)]
        assert [mark.role for mark in chart.marks] == ["dotted", "agent", "mean"]
        for k, mark in enumerate(chart.marks, start=1):
            drawn = [(x, y) for x, y in zip(mark.x, mark.y, strict=False) if y]
            np.testing.assert_allclose(drawn, [(EDGES[19 + k], 75.0), (EDGES[24], 25.0)], rtol=1e-5)


def write_hostile(write_run: WriteRun, path: Path) -> Path:
    samplers = {"uniform": {"type": "Uniform"}, HOSTILE: OTC, "c": {"type": "OnlineMatched", "matches": HOSTILE}}
    write_run(
        path,
        task="</script><script>alert(1)</script>" * 300,
        samplers=samplers,
        seeds=(0, 1),
        agents=("<b onclick=alert(2)>", "‮agent\n" + "z" * 10_000),
    )
    settings = json.loads((path / "run.json").read_text("utf-8"))
    settings["algorithm"] = {"type": "<!--", "k" * 10_000: {"</style>": ["</script>"]}}
    settings["samplers"]["y" * 10_000] = OTC
    (path / "run.json").write_text(json.dumps(settings), "utf-8")
    return path


def test_the_policy_allows_the_two_scripts_and_nothing_else(write_run: WriteRun, tmp_path: Path) -> None:
    page = page_of(tmp_path, write_run(tmp_path / "run", seeds=(0, 1), deployments=2))
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a) or ""
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    scripts = [text for attributes, text in page.scripts if "type" not in attributes]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert rules["script-src"] == " ".join(f"'sha256-{one}'" for one in hashes)
    assert len(scripts) == 2 and "unsafe-eval" not in policy
    order = [tag if tag != "meta" else f"meta {next(iter(a), '')}" for tag, a in page.elements]
    assert order.index("meta http-equiv") < order.index("style")


def test_the_page_needs_no_other_file(write_run: WriteRun, tmp_path: Path) -> None:
    page = page_of(tmp_path, write_run(tmp_path / "run", seeds=(0, 1), deployments=2))
    assert not [a for tag, a in page.elements if "src" in a or tag in {"link", "img", "iframe", "base", "form"}]
    assert all(str(a["href"]).startswith("#") for tag, a in page.elements if "href" in a)


def test_hostile_names_stay_text(write_run: WriteRun, tmp_path: Path) -> None:
    page = page_of(tmp_path, write_hostile(write_run, tmp_path / "run"))
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    assert sum(tag == "script" for tag, _ in page.elements) == 3
    assert '"><img src=x onerror=alert(1)> &amp;%{y…' in page.text
    assert "z" * 100 not in page.text and "k" * 100 not in page.text and "‮" not in page.text
    names = [row["name"] for told in page.data.values() for row in told["rows"]]  # which the script sets as text
    assert names and all(len(name) < 200 and "\n" not in name for name in names)


def test_numbers_that_are_not_finite_are_no_json(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    path = write_run(tmp_path / "run", seeds=(0, 1), deployments=3)
    change_line(path, 0, "otc-value", 2, **{"return": float("nan")})
    change_line(path, 1, "otc-value", 3, agents={"agent_0": {"alpha": float("nan"), "mean_q": float("inf")}})
    text = write_report([path], tmp_path / "report.html").read_text("utf-8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    json.loads(data[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert "the return stops being finite in seed 0 at deployment 2" in Page(text).text


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": (0,), "deployments": 1},
        {"samplers": {"otc-value": OTC}},
        {"samplers": {"uniform": {"type": "Uniform"}}},
        {"reached": lambda sampler, seed: seed},
        {"reached": lambda sampler, seed: 0},
        {"reached": lambda sampler, seed: -1},
        {"start": 0.0, "noise": 0.0, "gains": {}},
        {"deployments": 40},
    ],
)
def test_every_shape_of_run_has_a_page(write_run: WriteRun, tmp_path: Path, options: dict[str, Any]) -> None:
    page = page_of(tmp_path, write_run(tmp_path / "run", **{"seeds": (0, 1, 2), "deployments": 3} | options))
    assert "How to read this" in page.text
    assert {a["data-figure"] for _, a in page.elements if "data-figure" in a} == set(page.data)
    assert len(page.source) < 1_500_000


def test_the_table_holds_the_standings(write_run: WriteRun, tmp_path: Path) -> None:
    page = page_of(tmp_path, write_run(tmp_path / "run"))
    for expected in (
        "offline team",
        "matched control of OTC (value)",
        "improvement, %",
        "Every seed",
        "difference to its matched control",
    ):
        assert expected in page.text
    assert len(page.data) == 12


def test_several_runs_share_one_page_and_their_colours(write_run: WriteRun, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / task, task=task, seeds=(0, 1), deployments=2) for task in ("first", "second")]
    page = page_of(tmp_path, *runs)
    assert "pointed above uniform replay in 0 of 2 runs (directions, no verdicts)" in page.text
    assert [a["id"] for tag, a in page.elements if tag == "section" and "id" in a] == ["run-0", "run-1"]
    assert sum("data-toggle" in a for _, a in page.elements) == 4


def test_a_sampler_keeps_its_colour_and_its_control_has_a_shade_of_it(write_run: WriteRun, tmp_path: Path) -> None:
    uniform = {"type": "Uniform"}
    first = read_run(write_run(tmp_path / "a", seeds=(0,), deployments=1))
    others = {"mine": OTC, "c": {"type": "OnlineMatched", "matches": "mine"}, "otc-value": OTC, "uniform": uniform}
    second = read_run(write_run(tmp_path / "b", seeds=(0,), deployments=1, samplers=others))
    for shown in (looks([first]), looks([second]), looks([first, second])):
        assert (shown["otc-value"].light, shown["otc-value"].dark) == COLORS["blue"]
        assert (shown["uniform"].light, shown["uniform"].dark) == INK
    mine, control = looks([second])["mine"], looks([second])["c"]
    assert len({mine.light, control.light, COLORS["blue"][0]}) == 3 and mine.dark != control.dark
    assert control.dash == "dot" and not mine.is_control
    channels = [[int(look.light[at : at + 2], 16) for at in (1, 3, 5)] for look in (mine, control)]
    assert [round(0.58 * one) for one in channels[0]] == channels[1]  # the same hue, darker
    assert control.order == mine.order + 1


def test_more_samplers_than_colours_differ_in_shape(write_run: WriteRun, tmp_path: Path) -> None:
    samplers = {f"s{number}": OTC for number in range(14)}
    shown = looks([read_run(write_run(tmp_path / "run", seeds=(), deployments=1, samplers=samplers))])
    assert len({(look.light, look.symbol) for look in shown.values()}) == 14


def test_trajectories_that_are_none_are_left_out(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1)
    for sampler, record in (
        ("uniform", []),
        ("otc-value", {"agents": [[[1, 2, 3]]]}),
        ("online-only", {"agents": "x"}),
    ):
        (path / "seed-0" / sampler / "trajectories.json").write_text(json.dumps({"before": record, "after": record}))
    (path / "seed-0" / "online-matched-otc-value" / "trajectories.json").unlink()
    assert "One episode" not in page_of(tmp_path, path).text


def test_names_and_numbers_for_people() -> None:
    assert shorten("a\nb\t c\u2028d") == "a b c d"
    assert shorten("x" * 10_000) == "x" * 39 + "…"
    assert shorten("\u202e\x00") == "(no name)"
    assert number(-84.26, 1) == "−84.3"
    assert number(-0.001, 1, sign=True) == "0.0"
    assert number(12345.6, 0, sign=True) == "+12,346"
    assert number(float("nan"), 1) == "–"
    numbers = (0.0, 0.012345, -1.2345, 123.45, 1234.5, 2.5e-7, float("nan"))
    assert [three_figures(one) for one in numbers] == ["0.00", "0.0123", "−1.23", "123", "1,234", "2.50e−07", "–"]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_every_figure_without_an_error(write_run: WriteRun, tmp_path: Path) -> None:
    page = write_report([write_hostile(write_run, tmp_path / "run")], tmp_path / "report.html")
    source = html.escape(page.read_text("utf-8"))
    # as narrow as a phone, where something too wide would show, and as wide as a screen
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{source}"></iframe>' for width in (390, 1280))
    # after the load event, by which the frames have run their scripts; and until all is drawn, or for 10 s
    # after the load event, by which the frames have run their scripts: how wide a page needs to be, how many charts it
    # has, and what is told below the pointer and drawn once a sampler is hidden
    measure = """addEventListener("load", () => {
        const measured = [...document.querySelectorAll("iframe")].map((frame) => {
            const page = frame.contentDocument;
            const charts = [...page.querySelectorAll("[data-figure]")];
            const on = charts[0].getBoundingClientRect();
            const at = { clientX: on.left + on.width / 2, clientY: on.top + on.height / 2 };
            charts[0].dispatchEvent(new frame.contentWindow.PointerEvent("pointermove", at));
            const told = page.querySelectorAll(".tip p").length;
            const levels = charts[0].querySelector(".levels").innerHTML;
            const button = page.querySelector("[data-toggle]");
            button.click();
            const left = charts[0].querySelectorAll("[data-sampler]:not([hidden])").length;
            button.click();
            const restored = levels === charts[0].querySelector(".levels").innerHTML;
            return [page.documentElement.scrollWidth, charts.length, told, left, restored];
        });
        document.body.textContent = JSON.stringify(measured);
    })"""
    harness, requests = tmp_path / "harness.html", tmp_path / "requests.json"
    harness.write_text(f"<!doctype html><body>{frames}<img src={CONTROL}><script>{measure}</script></body>", "utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--log-net-log={requests}",
            "--window-size=1800,1000",
            "--virtual-time-budget=20000",
            "--dump-dom",
            harness.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = re.search(r"<body>(\[.*\])</body>", done.stdout)
    assert found is not None, done.stderr[-2000:]
    for width, (needed, charts, told, left, restored) in zip((390, 1280), json.loads(found[1]), strict=True):
        assert needed <= width
        assert charts == 12 and told == 1 + 3 and left > 0 and restored
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line and CONTROL not in line]
    assert not complaints
    # of what was asked for on behalf of a page, and not by the browser itself
    log = requests.read_text("utf-8", "replace")
    asked = re.findall(r'\{site=file://[^}]*\}","url":"((?:https?|wss?):[^"]*)"', log)
    assert set(asked) == {CONTROL}
