"""Columns of several agents in one row: whose each is, told by what their names share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from marline.data.mapping import AgentMapping
from marline.data.proposal.draft import Draft
from marline.data.proposal.likely import is_action, may_be, may_be_seen
from marline.data.proposal.names import file_names


def groups(draft: Draft, free: list[str]) -> dict[str, dict[str, str]]:
    """Columns of agents side by side, as in `a_x, a_u, b_x, b_u`: by agent and by what is left of the name."""
    best: dict[str, dict[str, str]] = {}
    patterns = [rf"(?P<agent>.+?){mark}(?P<rest>.+)" for mark in (r"\.", ":", "/", "__", " ", "-", "_")]
    patterns += [rf"(?P<rest>.+){mark}(?P<agent>.+?)" for mark in (r"\.", ":", "/", "__", " ", "-", "_")]
    patterns += [
        r"(?P<rest>.+)\[(?P<agent>[^\]]+)\]",
        r"(?P<agent>[A-Za-z]+[0-9]+)_(?P<rest>.+)",
        r"(?P<agent>[A-Za-z]+_[0-9]+)_(?P<rest>.+)",
    ]
    for pattern in patterns:
        by_agent: dict[str, dict[str, str]] = defaultdict(dict)
        for name in free:
            match = re.fullmatch(pattern, name)
            if match:
                by_agent[match["agent"]][match["rest"]] = name
        acting = {
            agent: rests
            for agent, rests in by_agent.items()
            if len(rests) > 1 and any(is_action(draft.facts[name], rest) for rest, name in rests.items())
        }
        if len(acting) > 1 and len(set.intersection(*(set(rests) for rests in acting.values()))) > 1:
            size, least = (sum(map(len, groups.values())) for groups in (acting, best))
            best = acting if size > least else best
    return best


def share_out(draft: Draft, groups: Mapping[str, Mapping[str, str]], free: list[str]) -> None:
    """Give each agent its columns, and all of them those that are nobody's."""
    names = file_names(groups)
    mine = {name for rests in groups.values() for name in rests.values()}
    shared = [name for name in free if name not in mine and may_be_seen(draft.facts[name])]
    for label, rests in groups.items():
        own: dict[str, list[str]] = {"observations": [], "actions": []}
        for rest, name in rests.items():
            key = next(
                (
                    key
                    for key in ("rewards", "terminals", "timeouts")
                    if key not in own and (key not in draft.common) and may_be(draft.facts[name], key, rest)
                ),
                None,
            )
            if key:
                own[key] = [name]
            elif is_action(draft.facts[name], rest):
                own["actions"].append(name)
            elif may_be_seen(draft.facts[name]):
                own["observations"].append(name)
        own["observations"] += shared
        draft.own[names[label]] = {key: its for key, its in own.items() if its}
        draft.agents.setdefault(names[label], AgentMapping())
