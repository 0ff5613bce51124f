"""Which columns of a table are what: as was said, as they are usually called, or as their words tell."""

from __future__ import annotations

import contextlib

from marline.data.formats.table_columns import find_columns, named_columns, usual_columns
from marline.data.formats.table_names import stem_of
from marline.data.mapping import KEYS, AgentMapping
from marline.data.proposal.draft import Draft, Role, flat
from marline.data.proposal.likely import MOST_ONE_HOT, is_action, may_be, may_be_seen
from marline.data.proposal.names import file_names, words
from marline.data.proposal.side_by_side import groups, share_out
from marline.errors import DataError

_MOST_LISTED = 50


def take_columns(draft: Draft) -> None:
    """Find the columns of each key, those that were said first."""
    if draft.given.has_own_columns:
        _take_own(draft)
        return
    _take_common(draft)
    if draft.guess:
        _guess(draft)


def _take_own(draft: Draft) -> None:
    for agent in draft.given.agents:
        try:
            found = find_columns(draft.where, draft.present, draft.given.columns_of(agent), continuing=True)
        except DataError as error:
            draft.problem(f"agent {agent}: {error}", "correct the mapping", is_open=True)
            found = {}
        draft.own[agent] = {key: names for key, names in found.items() if key != "agent"}


def _take_common(draft: Draft) -> None:
    """What is said, and what has a usual name; a key at a time, so that all that is wrong is found."""
    free = list(draft.present)
    said = draft.given.columns
    named: set[str] = set()
    for key, patterns in said.items():
        with contextlib.suppress(DataError):  # told below
            named |= set(named_columns(draft.where, draft.present, key, patterns))
    for key in KEYS:
        try:
            if key in said:
                its = named_columns(draft.where, draft.present, key, said[key])
            else:
                its = usual_columns(draft.where, [name for name in free if name not in named], key)
        except DataError as error:
            draft.problem(str(error), "say in [columns] which it is", is_open=True)
            continue
        if its:
            draft.common[key] = its
            free = [name for name in free if name not in its]


def _guess(draft: Draft) -> None:
    taken = set(flat(draft.common))
    free = [name for name in draft.present if name not in taken]
    for key in ("agent", "episode", "step", "timestamps", "rewards", "terminals", "timeouts"):
        if key in draft.common or (key == "agent" and len(draft.found.paths) > 1):
            continue
        fitting = [name for name in free if may_be(draft.facts[name], key)]
        if key == "agent" and fitting and groups(draft, free):
            continue  # columns of agents side by side are more than one that is only called so
        if fitting:
            best = max(fitting, key=lambda name: (len(words(name)) == 1, -draft.present.index(name)))
            draft.common[key] = [best]
            free.remove(best)
    if "agent" not in draft.common and "actions" not in draft.common and len(draft.found.paths) == 1:
        sides = groups(draft, free)
        if sides:
            share_out(draft, sides, free)
            return
    if "actions" not in draft.common:
        acts = [name for name in free if is_action(draft.facts[name], name)]
        if acts:
            draft.common["actions"] = acts
            free = [name for name in free if name not in acts]
    if "observations" not in draft.common:
        seen = [name for name in free if may_be_seen(draft.facts[name])]
        if seen:
            draft.common["observations"] = seen


def name_agents(draft: Draft) -> None:
    """Name the team, where nobody did."""
    if draft.own or not draft.guess or draft.is_joint:
        return
    if "agent" in draft.common:
        facts = draft.facts[draft.common["agent"][0]]
        names = file_names(facts.words)
        strange = [label for label, name in names.items() if label != name]
        if facts.has_more:
            draft.problem(
                f"column {facts.name!r} has over {len(facts.words):,} agents",
                "say another agent column",
                is_open=True,
            )
        elif not draft.agents and (strange or len(names) <= _MOST_LISTED):
            draft.agents = {name: AgentMapping(label=label) for label, name in names.items()}
        if strange and not draft.given.agents:
            shown = ", ".join(f"{label!r} as {names[label]}" for label in strange[:3])
            draft.problem(f"{len(strange)} agents have names that cannot name a file", f"they are called {shown}")
    elif len(draft.found.paths) == 1 and not draft.agents:
        name = file_names([stem_of(draft.found.paths[0])])
        draft.agents = {next(iter(name.values())): AgentMapping()}
        draft.problem(
            "no column tells agents apart",
            f"the rows are taken for those of one agent, {next(iter(draft.agents))}; "
            'if there are several, say agent = "COLUMN" in [columns], or give each its columns in [agents.NAME]',
        )


def describe(draft: Draft) -> dict[str, Role]:
    """What each column is taken for."""
    roles: dict[str, Role] = {}
    for name in draft.present:
        roles[name] = Role("left out", remark=_why_left(draft, name))
    for whose, columns in draft.everyone():
        for key, names in columns.items():
            for name in names:
                before = roles[name].whose if roles[name].key == key else ""
                shared = whose is not None and (draft.common.get(key) == names or bool(before))
                roles[name] = Role(key, "all" if shared else whose or "")
    return roles


def _why_left(draft: Draft, name: str) -> str:
    facts = draft.facts[name]
    if facts.rows > 1 and facts.kind in ("words", "number"):
        if len(facts.words) == 1 and not facts.missing:
            return "never changes"
    if facts.kind == "words" and draft.guess:
        return "too many words" if facts.has_more or len(facts.words) > MOST_ONE_HOT else ""
    return {"nothing": "empty", "other": f"holds {facts.type}", "time": "a time"}.get(facts.kind, "")
