"""How a table would be read, in lines for people."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Sequence

from marline.data.formats.survey import Facts
from marline.data.proposal.draft import Problem, Proposal, Role, listed

_KEYS = {
    **{"agent": "agent", "episode": "episode", "step": "step", "observations": "observation", "actions": "action"},
    **{"rewards": "reward", "terminals": "end for good", "timeouts": "cut", "timestamps": "time"},
    **{"next_observations": "next observation", "action_masks": "mask", "next_action_masks": "next mask"},
    **{"policy": "policy"},
}
_MOST_ROWS, _WIDEST = 60, 44
_NAME = re.compile(r"(?<=^agent )[^:]+(?=:)|'[^']*'|\bof \S+$", re.M)  # what a problem is about: an agent, or a column
_VARYING = re.compile(rf"{_NAME.pattern}|\[(?:values|agents)\..*?\](?=[ ,;]|$)|out of .*?:|[0-9]+(?:[.,][0-9]+)*", re.M)
_MOST_ALIKE = 6
_ALIKE = 4  # numbered columns from which on they are shown as one


def lines(source: str, proposal: Proposal) -> list[str]:
    """What was found, what it is taken for, and all that is to be decided."""
    survey = proposal.survey
    names = list(survey.facts)
    tables = f"{len(survey.paths)} tables, " if len(survey.paths) > 1 else ""
    shown = [f"{source}: {tables}{sum(survey.rows):,} rows, {len(names)} columns{_style(proposal)}", ""]
    shown += _columns(proposal)
    shown += ["", *_agents(proposal)]
    opened = [problem for problem in proposal.problems if problem.is_open]
    settled = [problem for problem in proposal.problems if not problem.is_open]
    for title, problems in (
        ("To be decided by you:", opened),
        ("Would be done, unless the mapping says otherwise:", settled),
    ):
        if problems:
            shown += ["", title]
            shown += [
                f"  {number}. {text}\n     -> {fix}" for number, (text, fix) in enumerate(told_once(problems), start=1)
            ]
    if not proposal.problems:
        shown += ["", "Nothing stands against it."]
    return [*shown, ""]


def told_once(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    """Text and fix of each; of several that differ in names and numbers alone, the first, and whose the others are."""
    alike: dict[str, list[Problem]] = {}
    for one in problems:
        alike.setdefault(_VARYING.sub("#", f"{one.text}\n{one.fix}"), []).append(one)
    told = []
    for first, *others in alike.values():
        about = list(dict.fromkeys(match[0] for one in others if (match := _NAME.search(one.text))))
        more = f"; likewise {', '.join(about[:_MOST_ALIKE])}" if about else ""
        more += f", ... ({len(about)})" if len(about) > _MOST_ALIKE else ""
        told.append((first.text + more, first.fix))
    return told


def _style(proposal: Proposal) -> str:
    told = {**proposal.mapping.table()}
    told.pop("nothing", None)
    marks = {"\t": "tab"}
    return "".join(f"; {key} {marks.get(value, repr(value))}" for key, value in told.items())


def _columns(proposal: Proposal) -> list[str]:
    rows = [("column", "taken for", "of", "holds", "missing")]
    own = any(role.whose for role in proposal.roles.values())
    for names in _alike(proposal):
        facts, role = proposal.survey.facts[names[0]], proposal.roles.get(names[0], Role("left out"))
        remark = f" ({role.remark})" if role.remark else ""
        missing = sum(proposal.survey.facts[name].missing for name in names)
        shown = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names)})"
        kept = _KEYS.get(role.key, role.key)
        rows.append(
            (shown, f"{kept}{remark}", role.whose, _held(facts, names, proposal), f"{missing:,}" if missing else "")
        )
    if len(rows) > _MOST_ROWS:
        rows = [*rows[:_MOST_ROWS], (f"... ({len(rows) - _MOST_ROWS} more)", "", "", "", "")]
    return _table(rows if own else [(*row[:2], *row[3:]) for row in rows])


def _alike(proposal: Proposal) -> list[list[str]]:
    """Columns in their order, those that only a number tells apart together."""
    groups: dict[object, list[str]] = {}
    for name in proposal.survey.facts:
        role = proposal.roles.get(name, Role("left out"))
        groups.setdefault((re.sub(r"[0-9]+", "#", name), role), []).append(name)
    return [
        part for names in groups.values() for part in ([names] if len(names) >= _ALIKE else [[one] for one in names])
    ]


def _held(facts: Facts, names: Sequence[str], proposal: Proposal) -> str:
    every = [proposal.survey.facts[name] for name in names]
    values = proposal.mapping.values_of(facts.name)
    unit = f" {values.unit}" if values.unit else ""
    if facts.kind == "number":
        low, high = min(its.low for its in every), max(its.high for its in every)
        if low > high:
            return "nothing"
        whole = "whole numbers " if all(its.is_whole for its in every) else ""
        return f"{whole}{low:.6g} to {high:.6g}{unit}"
    if facts.kind == "words":
        words = list(facts.words)
        more = "more than " if facts.has_more else ""
        some = listed(word[:20] for word in words[:5])
        return f"{more}{len(words)} words: {some}{', ...' if len(words) > 5 else ''}"
    if facts.kind == "time":
        return f"{_time(facts.low)} to {_time(facts.high)}"
    if facts.kind == "list":
        return f"lists of {facts.width} numbers"
    return {"truth": "true or false", "nothing": "nothing"}.get(facts.kind, facts.type)


def _time(seconds: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"


def _agents(proposal: Proposal) -> list[str]:
    if not proposal.orders:
        return []
    rows = [("agent", "rows", "episodes", "steps apart", "gaps", "steps lost", "incomplete rows")]
    labels = {its.label: agent for agent, its in proposal.mapping.agents.items() if its.label}
    only = next(iter(proposal.mapping.agents), "all")
    orders = proposal.orders
    if None in orders and len(orders) > 1:  # side by side: their rows are the same, and what each lacks is its own
        orders = {
            whose: dataclasses.replace(orders[None], incomplete=its.incomplete)
            for whose, its in orders.items()
            if whose is not None
        }
    for whose, order in orders.items():
        if not order.rows:
            continue
        name = labels.get(whose, whose) if whose is not None else only if len(proposal.mapping.agents) == 1 else "all"
        apart = "" if order.every is None else f"{order.every:g}" if order.is_regular else f"about {order.every:g}"
        rows.append(
            (
                str(name),
                f"{order.rows:,}",
                f"{order.episodes:,}",
                apart,
                f"{order.gaps:,}",
                f"{order.lost:,}",
                f"{order.incomplete:,}",
            )
        )
    if len(rows) > _MOST_ROWS:
        rows = [*rows[:_MOST_ROWS], (f"... ({len(rows) - _MOST_ROWS} more)", *[""] * 6)]
    return _table(rows) if len(rows) > 1 else []


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    clean = [[_cut(cell) for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in clean) for place in range(len(clean[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in clean]


def _cut(cell: str) -> str:
    cell = "".join(letter if letter.isprintable() else "?" for letter in cell)
    return cell if len(cell) <= _WIDEST else cell[: _WIDEST - 3] + "..."
