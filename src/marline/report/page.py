"""The page: one file that loads nothing from outside, and runs no script but its own two, which it can do without."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jinja2
from markupsafe import Markup

from marline.report.appearance import looks, number
from marline.report.chart_svg import SHAPES, Figure, figure
from marline.report.comparison import outcomes
from marline.report.introduction import titles
from marline.report.records import Run
from marline.report.sections import Group, section
from marline.report.statements import overview


@runtime_checkable
class Moment(Protocol):
    """What happened in a campaign: `campaign.timeline` makes them."""

    @property
    def time(self) -> str: ...
    @property
    def deployment(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def is_warning(self) -> bool: ...


def render(runs: Sequence[Run], timelines: Mapping[Path, Sequence[Moment]]) -> str:
    """The HTML of runs that have been read, and of what happened in those that were in the real world."""
    shown = looks(runs)
    found = [(run, outcomes(run)) for run in runs]
    sections = [
        {**section(f"run-{place}", title, run, mine, shown), "timeline": timelines.get(run.path, ())}
        for place, (title, (run, mine)) in enumerate(zip(titles(runs), found, strict=True))
    ]
    for one in sections:
        one["groups"] = [(group.title, figures_of(group)) for group in one["groups"]]
    told = {one.key: one.told for its in sections for _, figures in its["groups"] for one in figures if one.told}
    scripts = [packaged("marline", f"templates/{name}.js") for name in ("charts", "report")]
    return template("report.html").render(
        policy=content_security_policy(scripts),
        style=style(),
        scripts=[Markup(script) for script in scripts],
        data=Markup(embedded_json(told)),
        looks=list(shown.values()),
        names=shown,
        sections=sections,
        overview=overview(found, shown),
        number=number,
    )


def figures_of(group: Group) -> list[Figure]:
    """The charts of a group as the page shows them; those that come first are larger."""
    return [
        figure(key, chart, f"{chart.title}, by {chart.x.title}. {chart.note}", large=not group.title)
        for key, chart in group.charts
    ]


def style() -> Markup:
    """What all pages look like."""
    return Markup(packaged("marline", "templates/report.css") + SHAPES)


def template(name: str) -> jinja2.Template:
    """A page of ours, in which whatever is filled in is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("marline"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def content_security_policy(scripts: Sequence[str]) -> str:
    """A policy that lets a page run these scripts and load nothing."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {allowed}",
            "style-src 'unsafe-inline'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def embedded_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in; numbers to six figures."""
    text = json.dumps(_rounded(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def packaged(package: str, file: str) -> str:
    """Text that is installed with a package."""
    # one form of line ends, since that is what a browser hashes
    return (importlib.resources.files(package) / file).read_text(encoding="utf-8").replace("\r\n", "\n")
