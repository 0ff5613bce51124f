"""How names, numbers and samplers look, wherever a run is shown."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from marline.report.records import Run, SamplerRecord

INK = ("#3f4a56", "#c5ced8")
# Okabe and Ito's colours; on dark, the same hues, lightened
COLORS = {
    "blue": ("#0072b2", "#45a3e0"),
    "vermillion": ("#d55e00", "#f28544"),
    "green": ("#009e73", "#2cc598"),
    "purple": ("#b85c93", "#dd9ec4"),
    "orange": ("#e69f00", "#eeb032"),
    "sky": ("#56b4e9", "#93d3f7"),
}
# so that a sampler keeps its colour from report to report
FAVOURITES = {
    "otc-value": "blue",
    "otc-embedding": "vermillion",
    "otc-two-stage": "green",
    "otc-value-literal": "purple",
    "online-only": "orange",
    "offline-only": "sky",
}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "star")
MINUS = "\N{MINUS SIGN}"
DASHES: dict[str, Literal["dash", "dot"]] = {"shuffled": "dash", "matched": "dot"}
# a control has the hue of what it matches, with so much of another colour in it, on light and on dark: shuffled ones,
# dashed, are nearer to the paper, matched ones, dotted, farther from it
SHADES = {
    "shuffled": (("#ffffff", 0.45), ("#12171d", 0.42)),
    "matched": (("#000000", 0.42), ("#ffffff", 0.5)),
}


class Look(NamedTuple):
    """What a sampler looks like in every figure; controls have a shade of what they match, see `SHADES`."""

    order: int
    label: str
    light: str
    dark: str
    symbol: str
    dash: Literal["solid", "dash", "dot"]

    @property
    def is_control(self) -> bool:
        return self.dash != "solid"


def looks(runs: Iterable[Run]) -> dict[str, Look]:
    """One look per sampler name over all runs."""
    samplers = {sampler.name: sampler for run in runs for sampler in run.samplers}
    taken = {FAVOURITES[name] for name in samplers if name in FAVOURITES}
    free = [color for color in COLORS if color not in taken] or list(COLORS)
    assigned: dict[str, Look] = {}
    num_free = 0
    for sampler in _in_order(list(samplers.values())):
        order = len(assigned)
        if sampler.matches in assigned:
            matched = assigned[sampler.matches]
            its = f"{sampler.kind} control of {matched.label}"
            colors = zip((matched.light, matched.dark), SHADES[sampler.kind], strict=True)
            light, dark = (_mixed(color, *shade) for color, shade in colors)
            look = matched._replace(order=order, label=its, light=light, dark=dark, dash=DASHES[sampler.kind])
        elif sampler.kind == "uniform":
            look = Look(order, label(sampler), *INK, "circle", "solid")
        else:
            color = FAVOURITES.get(sampler.name) or free[num_free % len(free)]
            symbol = SYMBOLS[0 if sampler.name in FAVOURITES else (num_free // len(free)) % len(SYMBOLS)]
            num_free += sampler.name not in FAVOURITES
            look = Look(order, label(sampler), *COLORS[color], symbol, DASHES.get(sampler.kind, "solid"))
        assigned[sampler.name] = look
    return assigned


def _in_order(samplers: list[SamplerRecord]) -> list[SamplerRecord]:
    """Uniform replay first, and the controls of a sampler right behind it."""
    last = len(samplers)
    places = {
        sampler.name: (-1 if sampler.kind == "uniform" else place)
        for place, sampler in enumerate(samplers)
        if sampler.matches is None
    }
    ranks = ("shuffled", "matched")  # behind what they match, in this order

    def key(sampler: SamplerRecord) -> tuple[int, int]:
        rank = 1 + ranks.index(sampler.kind) if sampler.matches is not None else 0
        return places.get(sampler.matches or sampler.name, last), rank

    return sorted(samplers, key=key)


def _mixed(color: str, other: str, share: float) -> str:
    pairs = [(int(color[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(own + share * (its - own)):02x}" for own, its in pairs)


def label(sampler: SamplerRecord) -> str:
    """What people call a sampler: "OTC (value)" for otc-value."""
    name = sampler.name
    if sampler.kind == "otc" and name.startswith("otc-"):
        return f"OTC ({shorten(name.removeprefix('otc-').replace('-', ' '), 32)})"
    return "uniform replay" if name == "uniform" and sampler.kind == "uniform" else shorten(name)


def shorten(name: object, length: int = 40) -> str:
    """A name from data as one short line: no control characters, nothing that turns text around."""
    text = str(name)[: 4 * length]
    text = "".join(" " if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else c for c in text)
    text = " ".join(text.split())
    shown = text if len(text) <= length and len(str(name)) <= 4 * length else text[: length - 1] + "…"
    return shown or "(no name)"


def digits(values: Sequence[float]) -> int:
    """Decimals that show values of this size with about three figures."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=1.0)
    if largest >= 1000:
        return 0
    return 1 if largest >= 1 else min(2 + max(0, math.floor(-math.log10(largest))), 6) if largest > 0 else 1


def number(value: float, decimals: int, *, sign: bool = False) -> str:
    """A number with a real minus sign; a dash where there is none."""
    if not math.isfinite(value):
        return "–"
    value = round(value, decimals) + 0.0  # + 0.0: no negative zero
    return f"{value:{'+' if sign and value else ''},.{decimals}f}".replace("-", MINUS)


def three_figures(value: float) -> str:
    """A number that stands by itself: 0.0123, 1.23, 123, 1,234."""
    size = abs(value)
    if math.isfinite(value) and 0 < size < 1e-4:
        return f"{value:.2e}".replace("-", MINUS)
    return number(value, 2 if size == 0 or not math.isfinite(value) else max(0, 2 - math.floor(math.log10(size))))


def join(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
