"""Columns of several agents in one row: whose each is, told by what their names share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from marline.data.mapping import AgentMapping
from marline.data.proposal.draft import Draft, flat
from marline.data.proposal.likely import is_action, may_be, may_be_seen
from marline.data.proposal.names import file_names

_SINGLE = ("rewards", "terminals", "timeouts")  # keys of which an agent has one column
_STRONG = (
    *(rf"(?P<agent>.+?){mark}(?P<rest>.+)" for mark in (r"\.", ":", "/", "__")),
    *(rf"(?P<rest>.+){mark}(?P<agent>.+?)" for mark in (r"\.", ":", "/", "__")),
    r"(?P<rest>.+)\[(?P<agent>[^\]]+)\]",
)
_WEAK = (
    *(rf"(?P<agent>.+?){mark}(?P<rest>.+)" for mark in " -_"),
    *(rf"(?P<rest>.+){mark}(?P<agent>.+?)" for mark in " -_"),
    r"(?P<agent>[A-Za-z]+[0-9]+)_(?P<rest>.+)",
    r"(?P<agent>[A-Za-z]+_[0-9]+)_(?P<rest>.+)",
)


Sides = Mapping[str, Mapping[str, str]]  # by agent and by what is left of the name, a column


def sides_of(draft: Draft) -> Sides:
    """Columns of agents side by side, as in `a_x, a_u, b_x, b_u`.

    An agent is known by something that it does, as was said or as it is called. Where nothing is called so, parts of
    names that only a mark such as a slash divides are taken for agents, if all of them have the same columns.
    """
    best: Sides = {}
    said = _said(draft)
    columns = [name for name in draft.present if name in said or name not in flat(draft.common)]
    acts = "actions" in said.values() or any(is_action(draft.facts[name], name) for name in columns)
    for pattern in (*_STRONG, *_WEAK):
        by_agent: dict[str, dict[str, str]] = defaultdict(dict)
        for name in columns:
            match = re.fullmatch(pattern, name)
            if match:
                by_agent[match["agent"]][match["rest"]] = name
        acting = {
            agent: rests
            for agent, rests in by_agent.items()
            if len(rests) > 1 and any(_acts(draft, name, rest, said) for rest, name in rests.items())
        }
        are_entries = all(map(str.isdigit, by_agent))  # of a vector
        if not acting and not acts and pattern in _STRONG and not are_entries and _are_alike(by_agent):
            acting = by_agent
        if said and are_entries:
            continue
        if len(acting) > 1 and len(set.intersection(*(set(rests) for rests in acting.values()))) > 1:
            size, least = (sum(map(len, sides.values())) for sides in (acting, best))
            best = acting if size > least else best
    of_sides = {name for rests in best.values() for name in rests.values()}
    return best if all(name in of_sides for name in said) else {}


def share_out(draft: Draft, sides: Sides) -> None:
    """Give each agent its columns, and all of them those that are nobody's."""
    names, said = file_names(sides), _said(draft)
    draft.common = {key: its for key, its in draft.common.items() if not said.keys() & set(its)}
    mine = {name for rests in sides.values() for name in rests.values()}
    free = [name for name in draft.present if name not in mine and name not in flat(draft.common)]
    shared = [name for name in free if may_be_seen(draft.facts[name])]
    for label, rests in sides.items():
        own: dict[str, list[str]] = {"observations": [], "actions": []}
        for rest, name in rests.items():
            single = (key for key in _SINGLE if key not in own and key not in draft.common)
            key = said.get(name) or next((key for key in single if may_be(draft.facts[name], key, rest)), None)
            if key is None and _acts(draft, name, rest, said):
                key = "actions"
            if key is not None or may_be_seen(draft.facts[name]):
                own.setdefault(key or "observations", []).append(name)
        own["observations"] += shared
        draft.own[names[label]] = {key: its for key, its in own.items() if its}
        draft.agents.setdefault(names[label], AgentMapping())
    if not draft.given.rewards and all("rewards" in {**draft.common, **own} for own in draft.own.values()):
        draft.rows["rewards"] = "shared" if "rewards" in draft.common else "per-agent"


def _said(draft: Draft) -> dict[str, str]:
    """The key of each column, of those that were said in one for all agents: the actions of all of them, say."""
    keys = {key: names for key, names in draft.common.items() if key in draft.given.columns and len(names) > 1}
    return {name: key for key, names in keys.items() if key in ("actions", *_SINGLE) for name in names}


def _acts(draft: Draft, name: str, rest: str, said: Mapping[str, str]) -> bool:
    """Whether a column is an action: one that was said to be, or, where none was, one that is called so."""
    if "actions" in said.values():
        return said.get(name) == "actions"
    return is_action(draft.facts[name], rest)


def _are_alike(by_agent: Sides) -> bool:
    """Whether several have the same columns."""
    return len({frozenset(rests) for rests in by_agent.values()}) == 1
