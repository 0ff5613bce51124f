"""Which columns of a table are what: as was said, as they are usually called, or as their words tell."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from marline.data.formats.survey import orders
from marline.data.formats.table_columns import look_for_columns
from marline.data.formats.table_names import stem_of
from marline.data.mapping import AgentMapping
from marline.data.proposal.draft import Draft, Role, flat, listed
from marline.data.proposal.likely import MOST_ONE_HOT, is_action, may_be, may_be_seen
from marline.data.proposal.names import file_names, words
from marline.data.proposal.side_by_side import share_out, sides_of
from marline.types import AgentID

_MOST_LISTED = 50
_MOST_REPEATED = 0.25  # of all rows
_MOST_TRIED = 8  # columns, each of which takes a look through the table


def take_columns(draft: Draft) -> None:
    """Find the columns of each key, those that were said first."""
    for name in dict.fromkeys(name for names in draft.found.columns for name in names if names.count(name) > 1):
        draft.problem(f"there are several columns {name!r}", "rename or remove all but one in the table", is_open=True)
    if draft.given.has_own_columns:
        _take_own(draft)
        return
    _take_common(draft)
    if draft.guess:
        _guess(draft)
        _take_own_of_tables(draft)


def _take_own(draft: Draft) -> None:
    for agent in draft.given.agents:
        found, problems = look_for_columns(draft.where, draft.present, draft.given.columns_of(agent))
        for problem in problems:
            draft.problem(f"agent {agent}: {problem}", "correct the mapping", is_open=True)
        draft.own[agent] = {key: names for key, names in found.items() if key != "agent"}


def _take_common(draft: Draft) -> None:
    """What is said, and what has a usual name."""
    draft.common, problems = look_for_columns(draft.where, draft.present, draft.given.columns)
    for problem in problems:
        draft.problem(problem, "say in [columns] which it is", is_open=True)


def _take_own_of_tables(draft: Draft) -> None:
    """Of a table for each agent, each its own columns, where not all are in all tables."""
    found = draft.found
    if len(found.paths) == 1 or "agent" in draft.common:
        return
    names = file_names([stem_of(path) for path in found.paths])
    differing = {
        key
        for key, its in draft.common.items()
        if any(name not in columns for name in its for columns in found.columns)
    }
    if not differing or len(names) < len(found.paths):
        return
    for path, columns in zip(found.paths, found.columns, strict=True):
        label = stem_of(path)
        own = {key: _of_table(draft, key, columns) for key in sorted(differing)}
        draft.own[names[label]] = {key: its for key, its in own.items() if its}
        draft.agents.setdefault(names[label], AgentMapping(label=label))
    for key in sorted(differing):
        _tell_differing(draft, key)
    draft.common = {key: its for key, its in draft.common.items() if key not in differing}


def _of_table(draft: Draft, key: str, columns: Sequence[str]) -> list[str]:
    """The columns of a key in one of several tables: in its own order, unless another was said."""
    if key in draft.given.columns:
        return [name for name in draft.common[key] if name in columns]
    return [name for name in columns if name in draft.common[key]]


def _tell_differing(draft: Draft, key: str) -> None:
    """Say whose columns are called otherwise, for nothing but their order says that two of them are alike."""
    by_columns: dict[tuple[str, ...], list[AgentID]] = {}
    for agent, own in draft.own.items():
        by_columns.setdefault(tuple(own.get(key, ())), []).append(agent)
    told = "; ".join(f"{listed(agents)}: {listed(names) or 'none'}" for names, agents in by_columns.items())
    draft.problem(
        f"agents call their {key} differently ({told})",
        "each agent has its own, in this order; correct names, order, and what [values] say of them, in [agents.NAME]",
    )


def _guess(draft: Draft) -> None:
    is_single = len(draft.found.paths) == 1
    if (
        is_single
        and "agent" not in draft.common
        and ("actions" not in draft.common or "actions" in draft.given.columns)
    ):
        sides = sides_of(draft)
        if sides:  # which is more than a column that is only called like an agent
            of_sides = {name for rests in sides.values() for name in rests.values()}
            _guess_single(draft, but={"agent"}, without=of_sides)
            share_out(draft, sides)
            return
    _guess_single(draft, but=set() if is_single else {"agent"})
    if is_single and "agent" not in draft.common:
        telling = _telling_apart(draft, _free(draft))
        draft.common |= {"agent": [telling]} if telling is not None else {}
    for key, fits in (
        ("actions", lambda facts: is_action(facts, facts.name)),
        ("observations", may_be_seen),
    ):
        names = [name for name in _free(draft) if fits(draft.facts[name])]
        if names:
            draft.common.setdefault(key, names)


def _guess_single(draft: Draft, *, but: Collection[str], without: Collection[str] = ()) -> None:
    """Guess the keys that have one column, `but` some, `without` those columns."""
    for key in ("agent", "episode", "step", "timestamps", "rewards", "terminals", "timeouts"):
        free = [name for name in _free(draft) if name not in without]
        fitting = [name for name in free if may_be(draft.facts[name], key)]
        if fitting and key not in but and key not in draft.common:
            draft.common[key] = [max(fitting, key=lambda name: (len(words(name)) == 1, -draft.present.index(name)))]


def _free(draft: Draft) -> list[str]:
    taken = set(flat(draft.common))
    return [name for name in draft.present if name not in taken]


def _telling_apart(draft: Draft, free: list[str]) -> str | None:
    """The column, whatever its name, without which most rows repeat a step, and with which none do."""
    steps, episode = draft.common.get("step") or draft.common.get("timestamps"), draft.common.get("episode")
    if not steps:
        return None

    def repeated(agent: str | None) -> int:
        found = orders(
            draft.found.paths,
            draft.style(),
            agent=agent,
            episode=episode[0] if episode else None,
            step=steps[0],
            is_time=True,
            needed={},
        )
        return sum(its.repeated for its in found.values())

    facts = [draft.facts[name] for name in free]
    labels = [its for its in facts if its.is_labels and not its.has_more and 1 < len(its.words) <= _MOST_LISTED]
    if not labels or repeated(None) < _MOST_REPEATED * sum(draft.found.rows):
        return None
    fitting = [its for its in sorted(labels, key=lambda its: len(its.words))[:_MOST_TRIED] if not repeated(its.name)]
    return fitting[0].name if fitting else None


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
