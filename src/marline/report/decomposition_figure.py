"""Correction, diversity and freshness of each sampler, as one small picture that a phone can show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from markupsafe import Markup

from marline.data.files import write_output
from marline.errors import ConfigError
from marline.report.appearance import Look, looks, shorten
from marline.report.decomposition import Decomposition, Step, decompositions
from marline.report.records import Run, read_run
from marline.report.statements import finding_text, interval
from marline.report.svg import metadata

WIDTH = 340  # of a telephone, less its margins
TITLE, ROW, INSET = 30, 56, 6
STYLE = """
svg { --paper: #fff; --text: #24292f; --faint: #656d76; --edge: #d8dee4; }
.paper { fill: var(--paper); stroke: var(--edge); }
.parts { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
"""
DARK = "svg { --paper: #161b22; --text: #e6edf3; --faint: #9aa5b1; --edge: #30363d; }"
# in a page and in a file of its own: colours are those of what stands around
SHAPES = """
.parts text { font-size: 13px; fill: var(--text); }
.parts text.title { font-weight: 600; font-size: 14px; }
.parts text.faint { font-size: 11px; fill: var(--faint); }
.parts path { fill: none; }
.parts .zero { stroke: var(--faint); opacity: .6; }
.parts .span { stroke: var(--c); stroke-width: 7; opacity: .35; }
.parts .mean { stroke: var(--c); stroke-width: 3; }
.parts .seed { stroke: var(--c); stroke-width: 1; opacity: .8; }
"""


def pictures(run: Run, shown: Mapping[str, Look]) -> list[tuple[Look, Markup]]:
    """A picture of each sampler, all on one scale, for a page that sets --text, --faint and --c."""
    found = _in_order(run, shown)
    scale = _scale(found)
    return [
        (
            shown[one.sampler],
            Markup(
                f'<svg class="parts" viewBox="0 0 {WIDTH} {_height(one)}" role="img" aria-label="{_words(one, shown)}">'
                f"<style>{SHAPES}</style>{''.join(_block(one, shown, scale))}</svg>"
            ),
        )
        for one in found
    ]


def write_decomposition(runs: Sequence[Path], path: Path) -> Path:
    """Draw where the differences of runs come from, one sampler below the other, as an SVG file of its own.

    Raises:
        ConfigError: `path` does not end in .svg, or no run has a sampler with a control.
    """
    if path.suffix.lower() != ".svg":
        raise ConfigError(f"{path} does not end in .svg, the only form that this figure is drawn in; rename it")
    text = draw_decompositions([read_run(run) for run in runs])
    if text is None:
        raise ConfigError(
            "no sampler of these runs has a control or uniform replay beside it, so there is nothing to take apart; "
            "run it with --sampler uniform online-matched shuffled and its own name"
        )
    write_output(path, text)
    return path


def draw_decompositions(runs: Sequence[Run]) -> str | None:
    """The SVG of runs that have been read, following the reader's light or dark scheme; None if there is nothing."""
    shown = looks(runs)
    parts, top = [], 12
    for run in runs:
        found = _in_order(run, shown)
        scale = _scale(found)
        if found and len(runs) > 1:
            parts.append(f'<text class="faint" x="{INSET + 8}" y="{top + 14}">{escape(shorten(run.task))}</text>')
            top += 22
        for one in found:
            look = shown[one.sampler]
            parts += [f'<g class="c{look.order}" transform="translate(8 {top})">', *_block(one, shown, scale), "</g>"]
            top += _height(one) + 12
    if not parts:
        return None
    light = "\n".join(f".c{look.order} {{ --c: {look.light}; }}" for look in shown.values())
    dark = "\n".join(f".c{look.order} {{ --c: {look.dark}; }}" for look in shown.values())
    width = WIDTH + 16
    return "\n".join(
        [
            '<svg class="parts" xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {width} {top}" width="{width}" role="img">',
            "<title>Where the differences come from</title>",
            *metadata(runs),
            f"<style>{STYLE}{SHAPES}{light}\n@media (prefers-color-scheme: dark) {{\n{DARK}\n{dark}\n}}</style>",
            f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{top - 1}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _in_order(run: Run, shown: Mapping[str, Look]) -> list[Decomposition]:
    return sorted(decompositions(run), key=lambda one: shown[one.sampler].order)


def _height(one: Decomposition) -> int:
    return TITLE + ROW * len(one.parts)


def _scale(found: Sequence[Decomposition]) -> tuple[float, float]:
    differences = [step.comparison.difference for one in found for step in one.parts]
    ends = [end for difference in differences for end in (*difference[:3], *difference.per_seed)]
    finite = [0.0, *(end for end in ends if math.isfinite(end))]
    return min(finite), max(finite)


def _block(one: Decomposition, shown: Mapping[str, Look], scale: tuple[float, float]) -> list[str]:
    look = shown[one.sampler]
    num = len(one.whole.comparison.seeds)
    parts = [
        f'<text class="title" x="{INSET}" y="16">{escape(shorten(look.label, 34))}</text>',
        f'<text class="faint" x="{WIDTH - INSET}" y="16" text-anchor="end">{num} '
        f"{'seed' if num == 1 else 'seeds'}</text>",
    ]
    for place, step in enumerate(one.parts):
        parts += _row(step, scale, TITLE + ROW * place)
    return parts


def _row(step: Step, scale: tuple[float, float], top: int) -> list[str]:
    low, high = scale

    def x(value: float) -> float:
        return round(INSET + (value - low) / (high - low or 1.0) * (WIDTH - 2 * INSET), 1)

    mean, *ends, per_seed = step.comparison.difference
    ends = [end if math.isfinite(end) else mean for end in ends]
    middle = top + 38
    return [
        f'<text x="{INSET}" y="{top + 12}">{step.name}</text>',
        f'<text x="{WIDTH - INSET}" y="{top + 12}" text-anchor="end">{interval(step.comparison.difference)}</text>',
        f'<text class="faint" x="{WIDTH - INSET}" y="{top + 25}" text-anchor="end">'
        f"{escape(finding_text(step.comparison))}</text>",
        f'<path class="zero" d="M{x(0.0)} {top + 31}v14"/>',
        f'<path class="span" d="M{x(ends[0])} {middle}H{x(ends[1])}"/>',
        *(f'<path class="seed" d="M{x(value)} {middle - 4}v8"/>' for value in per_seed),
        f'<path class="mean" d="M{x(mean)} {middle - 6}v12"/>',
    ]


def _words(one: Decomposition, shown: Mapping[str, Look]) -> str:
    told = "; ".join(f"{step.name} {interval(step.comparison.difference)}" for step in one.parts)
    return escape(f"{shorten(shown[one.sampler].label)}: {told}", {'"': "&quot;"})
