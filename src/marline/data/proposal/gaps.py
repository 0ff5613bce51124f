"""What stands against the rows of a table: something is missing, steps are repeated, lost or out of order."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from marline.data.formats.survey import Order, orders
from marline.data.proposal.draft import Draft, flat, listed
from marline.display.words import plural

_MANY = 0.2  # of an agent's rows
_MOST_TRIED = 8  # columns, each of which takes a look through the table
_FEW_GAPS = 0.1  # of those that there are without episodes


def look_at_rows(draft: Draft) -> None:
    """Find out in which order the rows of each agent are, and what to do about what is not there."""
    step, needed = draft.common.get("step") or draft.common.get("timestamps"), _needed(draft)
    draft.orders = _orders(draft, needed, episode=next(iter(draft.common.get("episode", ())), None))
    _look_at_labels(draft)
    _look_at_missing(draft, needed)
    given = draft.given
    if step and ("step" in draft.common or given.every or given.sort or draft.guess):
        _look_at_order(draft)
    _look_at_gaps(draft)


def _orders(draft: Draft, needed: dict[str | None, list[str]], *, episode: str | None) -> dict[str | None, Order]:
    """How rows follow each other, if that column tells episodes apart."""
    label, step = draft.common.get("agent"), draft.common.get("step") or draft.common.get("timestamps")
    return orders(
        draft.found.paths,
        draft.style(),
        agent=label[0] if label else None,
        episode=episode,
        step=step[0] if step else None,
        is_time=True,
        needed=needed,
    )


def _needed(draft: Draft) -> dict[str | None, list[str]]:
    """By agent, the columns in which nothing may be missing; under None of all agents."""
    if draft.own:
        shared = {key: its for key, its in draft.common.items() if key not in ("agent", "episode", "step")}
        needed: dict[str | None, list[str]] = {
            whose: flat(shared) + flat(columns) for whose, columns in draft.own.items()
        }
    else:
        needed = {None: flat({key: its for key, its in draft.common.items() if key != "agent"})}
    return {whose: [name for name in dict.fromkeys(its) if name in draft.facts] for whose, its in needed.items()}


def _look_at_missing(draft: Draft, needed: Mapping[str | None, list[str]]) -> None:
    incomplete = {whose: its.incomplete for whose, its in draft.orders.items() if its.incomplete}
    if not incomplete or draft.given.missing != "refuse":
        return
    names = [name for its in needed.values() for name in its if draft.facts[name].missing]
    names = [name for name in dict.fromkeys(names) if not draft.given.values_of(name).fill]
    first = min((draft.facts[name] for name in names), key=lambda facts: facts.first_missing or (0, 0), default=None)
    if (first is None or first.first_missing is None) and not draft.rows.get("nothing", draft.given.nothing):
        return
    where = ""
    if first is not None and first.first_missing is not None:
        where = f", first in {first.name!r} at {draft.found.where(first.first_missing)}"
    draft.problem(
        f"something is missing in {plural(sum(incomplete.values()), 'row')} ({_by_agent(incomplete)}){where}",
        'such rows are left out and episodes end before them (missing = "cut" in [rows]); to let the last '
        'value stand for a missing one for a few rows, say fill = 2 in [values."COLUMN"]'
        if draft.guess
        else 'say missing = "cut" in [rows]',
        is_open=not draft.guess,
    )
    draft.rows["missing"] = "cut"


def _look_at_order(draft: Draft) -> None:
    repeated = {whose: its.repeated for whose, its in draft.orders.items() if its.repeated}
    many = {whose: number for whose, number in repeated.items() if number > _MANY * draft.orders[whose].rows}
    if many and draft.given.repeated == "refuse":
        draft.problem(
            f"{sum(many.values()):,} rows repeat a step ({_by_agent(many)}), so many that something is taken amiss: "
            "are there rows of several agents or episodes?",
            'say agent = "COLUMN" or episode = "COLUMN" in [columns]; if the first row of each step is the one to '
            'take, say repeated = "first" in [rows]',
            is_open=True,
        )
    elif repeated and draft.given.repeated == "refuse":
        draft.problem(
            f"{sum(repeated.values()):,} rows repeat a step ({_by_agent(repeated)})",
            'the first of them counts (repeated = "first" in [rows])'
            if draft.guess
            else 'say repeated = "first" in [rows]',
            is_open=not draft.guess,
        )
        draft.rows["repeated"] = "first"
    unsorted = [str(whose) for whose, its in draft.orders.items() if not its.is_sorted]
    if unsorted and not draft.given.sort:
        draft.problem(
            f"rows are not in the order of episodes and steps{_of(unsorted)}",
            "they are sorted first, which takes memory for all of them (sort = true in [rows])"
            if draft.guess
            else "say sort = true in [rows]",
            is_open=not draft.guess,
        )
        draft.rows["sort"] = True


def _look_at_labels(draft: Draft) -> None:
    for key in ("agent", "episode", "step", "timestamps"):
        for name in draft.common.get(key, []):
            facts = draft.facts[name]
            if facts.missing and facts.first_missing is not None:
                draft.problem(
                    f"column {name!r} for the {key} is empty in {facts.missing:,} rows, first at "
                    f"{draft.found.where(facts.first_missing)}",
                    f"name the {key} of every row, or remove those rows",
                    is_open=True,
                )


def _look_at_gaps(draft: Draft) -> None:
    found = draft.orders
    has_step = "step" in draft.common
    every = [its.every for its in found.values() if its.every]
    if not has_step and "timestamps" in draft.common and every and not draft.given.every and draft.guess:
        usual = sorted(every)[len(every) // 2]
        if all(its.is_regular for its in found.values()):
            draft.rows["every"] = float(f"{usual:.6g}")
        else:
            draft.problem(
                "steps are at irregular times",
                "they are taken for consecutive; to end an episode where "
                f"much time passes, say every = {usual:.6g} in [rows], the most between two steps by 1.5",
            )
    lost = {whose: its.lost for whose, its in found.items() if its.lost}
    counts = has_step or "every" in draft.rows or draft.given.every
    if lost and counts and "next_observations" not in draft.common:
        gaps = sum(its.gaps for its in found.values())
        draft.problem(
            f"{sum(lost.values()):,} steps are missing in {gaps:,} places ({_by_agent(lost)})",
            "an episode ends at each, for the agent concerned only; a row before it has no next observation and is "
            "lost. To make a few steps up, say fill in [values] of all observations, actions and rewards"
            + _telling_episodes(draft, gaps),
        )


def _telling_episodes(draft: Draft, gaps: int) -> str:
    """Whether a column that is at most observed tells where episodes end: within its words hardly a step is missing."""
    if "episode" in draft.common:
        return ""
    used = {
        name
        for _, its in draft.everyone()
        for key, names in its.items()
        if key != "observations" or key in draft.given.columns
        for name in names
    }
    labels = [its for its in draft.facts.values() if its.is_labels and its.kind == "words" and its.name not in used]
    for name in [its.name for its in labels if 1 < len(its.words) < its.rows // 2][:_MOST_TRIED]:
        within = _orders(draft, {}, episode=name)
        if sum(its.gaps for its in within.values()) <= _FEW_GAPS * gaps:
            return f"; if {name!r} tells episodes apart, as it seems, say --column episode={shlex.quote(name)}"
    return ""


def _by_agent(counts: Mapping[str | None, int]) -> str:
    if set(counts) == {None}:
        return "in all"
    most = 8
    shown = ", ".join(f"{listed([str(whose)])} {count:,}" for whose, count in list(counts.items())[:most])
    return shown + (f", ... ({len(counts)})" if len(counts) > most else "")


def _of(agents: list[str]) -> str:
    return "" if agents == ["None"] else f" ({listed(agents)})"
