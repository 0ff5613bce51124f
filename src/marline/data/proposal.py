"""How a table might be read, guessed from what is in it, and all that stands against it; the user has the last word.

Names are guessed by their words, in English; whatever they are, each guess is shown and written into a mapping file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from marline.data.formats.survey import Facts, Order, Survey, orders
from marline.data.formats.table_columns import find_columns, named_columns, usual_columns
from marline.data.formats.table_names import stem_of
from marline.data.layout import by_number
from marline.data.mapping import KEYS, AgentMapping, ImportMapping, Values
from marline.errors import DataError
from marline.types import AgentID

_NAMES: dict[str, set[str]] = {
    "agent": set(
        "agent robot intersection junction signal light tls node player unit vehicle drone machine "
        "device actor controller station car truck pump house building team_member".split()
    ),
    "episode": set("episode ep run trial match game day date session rollout flight mission round".split()),
    "step": set("step tick frame turn timestep".split()),
    "timestamps": set("timestamp timestamps time datetime clock ts".split()),
    "rewards": set("reward rewards rew score payoff utility cost costs penalty".split()),
    "terminals": set("terminated terminal terminals done dead crashed finished over".split()),
    "timeouts": set("truncated truncation timeout timeouts".split()),
}
_LONE = {"step": {"t", "k"}, "rewards": {"r"}}
_ACTIONS = set(
    "action actions act cmd command control torque motor green setpoint move throttle steering valve brake u".split()
)
_COSTS = {"cost", "costs", "penalty"}
_PHASES = {"phase", "mode", "stage", "state", "program", "plan", "kind", "type", "class"}
_KEYS_OF_ROWS = {"id", "index", "uuid", "row", "seed", "version", "idx"}
_FILLERS = set(
    "id name no nr number num label s ms sec secs seconds min minutes pct percent m mm cm km deg rad hz kw "
    "w v a nm kmh n count idx index".split()
)
_UNITS = {
    "s": "s",
    "sec": "s",
    "secs": "s",
    "seconds": "s",
    "ms": "ms",
    "pct": "%",
    "percent": "%",
    "deg": "deg",
    "rad": "rad",
    "m": "m",
    "mm": "mm",
    "cm": "cm",
    "km": "km",
    "kmh": "km/h",
    "kw": "kW",
    "hz": "Hz",
    "nm": "Nm",
}
_MOST_ONE_HOT, _MOST_CHOICES, _FEW, _MOST_LISTED = 30, 200, 10, 50
_MOST_NOTHING = 20


class Problem(NamedTuple):
    """Something that the user decides.

    Attributes:
        text: what is found.
        fix: what the proposed mapping does about it; or, where it cannot do anything, what the user must do.
        is_open: whether the import cannot be done before the user did that.
    """

    text: str
    fix: str
    is_open: bool = False


class Role(NamedTuple):
    """What a column is taken for: a key or "left out", whose, and why or as what."""

    key: str
    whose: str = ""
    remark: str = ""


@dataclasses.dataclass
class Proposal:
    """How tables might be read.

    Attributes:
        survey: what is in them.
        mapping: how to read them.
        roles: of each column.
        problems: what the user decides, with the fix for each.
        orders: how the rows of each agent follow each other, by what the table calls it.
        comments: on the entries of the mapping, for its file.
    """

    survey: Survey
    mapping: ImportMapping
    roles: dict[str, Role] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    orders: Mapping[str | None, Order] = dataclasses.field(default_factory=dict)
    comments: dict[tuple[str, ...], str] = dataclasses.field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether something has to be decided that nothing can be proposed for."""
        return any(problem.is_open for problem in self.problems)


def propose(found: Survey, given: ImportMapping, *, guess: bool = True, is_joint: bool = False) -> Proposal:
    """A mapping of tables, with all that stands against it.

    Args:
        found: what is in the tables.
        given: what is said already, which is kept.
        guess: whether to guess what is not said; otherwise only the usual names of columns are taken.
        is_joint: whether somebody else tells whose the columns are.
    """
    style = found.style
    said = dataclasses.replace(
        given, separator=style.separator, decimal=style.decimal, encoding=style.encoding, time_format=style.time_format
    )
    return _Proposer(found, said, guess, is_joint).proposal()


class _Proposer:
    def __init__(self, found: Survey, given: ImportMapping, guess: bool, is_joint: bool) -> None:
        self._found, self._given, self._guess, self._is_joint = found, given, guess, is_joint
        self._facts = found.facts
        self._present = list(dict.fromkeys(name for names in found.columns for name in names))
        self._where = str(found.paths[0] if len(found.paths) == 1 else found.paths[0].parent)
        self._out = Proposal(found, given)
        self._common: dict[str, list[str]] = {}
        self._own: dict[AgentID, dict[str, list[str]]] = {}
        self._values: dict[str, Values] = dict(given.values)
        self._agents: dict[AgentID, AgentMapping] = dict(given.agents)
        self._rows: dict[str, object] = {}
        self._guessed: set[str] = set()

    def proposal(self) -> Proposal:
        """The mapping, and what is to be said of it."""
        if self._given.has_own_columns:
            self._take_own()
        else:
            self._take_common()
        if self._guess and not self._given.has_own_columns:
            self._guess_roles()
        self._name_agents()
        for whose, columns in self._everyone():
            self._look_at_actions(whose, columns)
            self._look_at_rewards(whose, columns)
            self._look_at_observations(whose, columns)
        self._look_at_ends()
        self._look_at_words()
        self._look_at_rows()
        self._describe_columns()
        self._finish()
        return self._out

    def _everyone(self) -> list[tuple[AgentID | None, dict[str, list[str]]]]:
        if not self._own:
            return [(None, self._common)]
        return [(agent, {**self._common, **columns}) for agent, columns in self._own.items()]

    def _problem(self, text: str, fix: str, *, is_open: bool = False) -> None:
        problem = Problem(text, fix, is_open)
        if problem not in self._out.problems:
            self._out.problems.append(problem)

    # which columns are what

    def _take_own(self) -> None:
        for agent in self._given.agents:
            try:
                found = find_columns(self._where, self._present, self._given.columns_of(agent), continuing=True)
            except DataError as error:
                self._problem(f"agent {agent}: {error}", "correct the mapping", is_open=True)
                found = {}
            self._own[agent] = {key: names for key, names in found.items() if key != "agent"}

    def _take_common(self) -> None:
        """What is said, and what has a usual name; a key at a time, so that all that is wrong is found."""
        free = list(self._present)
        said = self._given.columns
        named: set[str] = set()
        for key, patterns in said.items():
            with contextlib.suppress(DataError):  # told below
                named |= set(named_columns(self._where, self._present, key, patterns))
        for key in KEYS:
            try:
                if key in said:
                    its = named_columns(self._where, self._present, key, said[key])
                else:
                    its = usual_columns(self._where, [name for name in free if name not in named], key)
            except DataError as error:
                self._problem(str(error), "say in [columns] which it is", is_open=True)
                continue
            if its:
                self._common[key] = its
                free = [name for name in free if name not in its]

    def _guess_roles(self) -> None:
        taken = set(_flat(self._common))
        free = [name for name in self._present if name not in taken]
        for key in ("agent", "episode", "step", "timestamps", "rewards", "terminals", "timeouts"):
            if key in self._common or (key == "agent" and len(self._found.paths) > 1):
                continue
            fitting = [name for name in free if self._may_be(name, key)]
            if key == "agent" and fitting and self._groups(free):
                continue  # columns of agents side by side are more than one that is only called so
            if fitting:
                best = max(fitting, key=lambda name: (len(_tokens(name)) == 1, -self._present.index(name)))
                self._common[key] = [best]
                self._guessed.add(key)
                free.remove(best)
        if "agent" not in self._common and "actions" not in self._common and len(self._found.paths) == 1:
            groups = self._groups(free)
            if groups:
                self._side_by_side(groups, free)
                return
        if "actions" not in self._common:
            acts = [name for name in free if self._is_action(name, name)]
            if acts:
                self._common["actions"] = acts
                self._guessed.add("actions")
                free = [name for name in free if name not in acts]
        if "observations" not in self._common:
            seen = [name for name in free if self._may_be_seen(name)]
            if seen:
                self._common["observations"] = seen
                self._guessed.add("observations")

    def _may_be(self, name: str, key: str) -> bool:
        facts, tokens = self._facts[name], _tokens(name)
        if key == "agent":
            fits = facts.is_labels and not facts.has_more and 0 < len(facts.words) < max(2, facts.rows // 2)
        elif key == "episode":
            fits = facts.is_labels or facts.kind == "time" and bool(facts.words)
            fits &= len(facts.words) < max(2, facts.rows) or facts.has_more
        elif key == "step":
            fits = facts.kind == "number" and facts.is_whole
        elif key == "timestamps":
            fits = facts.kind == "time" or facts.kind == "number"
        elif key == "rewards":
            fits = facts.kind == "number"
        else:
            fits = facts.kind == "truth" or (facts.kind == "number" and facts.low >= 0 and facts.high <= 1)
        if not fits or not tokens:
            return False
        known, lone = _NAMES[key], _LONE.get(key, set())
        is_called = tokens[0] in known or tokens[-1] in known or (len(tokens) == 1 and tokens[0] in lone)
        return is_called or (key == "timestamps" and facts.kind == "time" and not facts.words)

    def _is_action(self, name: str, called: str) -> bool:
        facts, tokens = self._facts[name], _tokens(called)
        return (
            bool(tokens)
            and facts.kind in ("number", "words", "truth")
            and (tokens[0] in _ACTIONS or tokens[-1] in _ACTIONS)
        )

    def _may_be_seen(self, name: str) -> bool:
        facts, raw = self._facts[name], _raw_tokens(name)
        if facts.rows > 1 and (len(facts.words) == 1 if facts.kind == "words" else facts.low == facts.high):
            return False  # it never changes
        if facts.kind == "words":
            return not facts.has_more and len(facts.words) <= _MOST_ONE_HOT
        if facts.kind not in ("number", "truth"):
            return False
        counts_rows = facts.is_whole and facts.has_more and bool(set(raw) & _KEYS_OF_ROWS)
        return not counts_rows and not (raw and raw[-1] in _KEYS_OF_ROWS and facts.is_whole)

    def _groups(self, free: list[str]) -> dict[str, dict[str, str]]:
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
                if len(rests) > 1 and any(self._is_action(name, rest) for rest, name in rests.items())
            }
            if len(acting) > 1 and len(set.intersection(*(set(rests) for rests in acting.values()))) > 1:
                size, least = (sum(map(len, groups.values())) for groups in (acting, best))
                best = acting if size > least else best
        return best

    def _side_by_side(self, groups: Mapping[str, Mapping[str, str]], free: list[str]) -> None:
        names = _file_names(groups)
        mine = {name for rests in groups.values() for name in rests.values()}
        shared = [name for name in free if name not in mine and self._may_be_seen(name)]
        for label, rests in groups.items():
            own: dict[str, list[str]] = {"observations": [], "actions": []}
            for rest, name in rests.items():
                key = next(
                    (
                        key
                        for key in ("rewards", "terminals", "timeouts")
                        if key not in own and (key not in self._common) and self._called(name, rest, key)
                    ),
                    None,
                )
                if key:
                    own[key] = [name]
                elif self._is_action(name, rest):
                    own["actions"].append(name)
                elif self._may_be_seen(name):
                    own["observations"].append(name)
            own["observations"] += shared
            self._own[names[label]] = {key: its for key, its in own.items() if its}
            self._agents.setdefault(names[label], AgentMapping())
        self._guessed |= {"own"}

    def _called(self, name: str, rest: str, key: str) -> bool:
        facts = self._facts[name]
        alias = dataclasses.replace(facts, name=rest)
        self._facts[rest], before = alias, self._facts.get(rest)
        fits = self._may_be(rest, key)
        if before is None:
            del self._facts[rest]
        else:
            self._facts[rest] = before
        return fits

    # what is known of them

    def _name_agents(self) -> None:
        if self._own or not self._guess or self._is_joint:
            return
        if "agent" in self._common:
            facts = self._facts[self._common["agent"][0]]
            names = _file_names(facts.words)
            strange = [label for label, name in names.items() if label != name]
            if facts.has_more:
                self._problem(
                    f"column {facts.name!r} has over {len(facts.words):,} agents",
                    "say another agent column",
                    is_open=True,
                )
            elif not self._agents and (strange or len(names) <= _MOST_LISTED):
                self._agents = {name: AgentMapping(label=label) for label, name in names.items()}
            if strange and not self._given.agents:
                shown = ", ".join(f"{label!r} as {names[label]}" for label in strange[:3])
                self._problem(f"{len(strange)} agents have names that cannot name a file", f"they are called {shown}")
        elif len(self._found.paths) == 1 and not self._agents:
            name = _file_names([stem_of(self._found.paths[0])])
            self._agents = {next(iter(name.values())): AgentMapping()}
            self._problem(
                "no column tells agents apart",
                f"the rows are taken for those of one agent, {next(iter(self._agents))}; "
                'if there are several, say agent = "COLUMN" in [columns], or give each its columns in [agents.NAME]',
            )

    def _look_at_actions(self, whose: AgentID | None, columns: Mapping[str, list[str]]) -> None:
        names = columns.get("actions", [])
        if not names:
            self._problem(
                f"no column is called like an action{f' of {whose}' if whose else ''}",
                f'say what the agent does, out of {_listed(self._free())}: actions = ["COLUMN"] in '
                f"{f'[agents.{whose}]' if whose else '[columns]'}",
                is_open=True,
            )
            return
        for name in names:
            facts, known = self._facts[name], self._given.values_of(name, whose)
            if known.choices or known.one_hot or (known.low is not None and known.high is not None):
                continue
            if facts.kind == "words":
                self._choose(name, facts, len(names))
            elif facts.kind in ("number", "truth") and facts.width == 1:
                self._range(name, facts, len(names))

    def _choose(self, name: str, facts: Facts, num_actions: int) -> None:
        words = sorted(facts.words)
        if facts.has_more or len(words) > _MOST_CHOICES:
            self._problem(
                f"action {name!r} holds over {_MOST_CHOICES} words",
                "no agent has so many choices; say another action",
                is_open=True,
            )
        elif num_actions > 1:
            self._problem(
                f"action {name!r} holds words, and there are {num_actions} actions",
                "an agent has one choice or several numbers; leave one of them in actions",
                is_open=True,
            )
        elif self._guess:
            self._values[name] = dataclasses.replace(self._values.get(name, Values()), choices=tuple(words))
            self._problem(
                f"action {name!r} holds the words {_listed(words)}",
                f"they are choices 0 to {len(words) - 1}; the order in choices is theirs",
            )
        else:
            self._problem(
                f"action {name!r} holds the words {_listed(words)}",
                f'list them as choices in [values."{name}"]',
                is_open=True,
            )

    def _range(self, name: str, facts: Facts, num_actions: int) -> None:
        if facts.kind == "truth":
            return
        if facts.low == facts.high:
            self._problem(
                f"action {name!r} is always {facts.low:g}",
                "nothing is learned from it; say another action",
                is_open=num_actions == 1,
            )
        unit = self._unit(name)
        few = facts.is_whole and len(facts.words) <= _FEW and not facts.has_more and 0 <= facts.low
        if facts.is_whole and num_actions == 1 and few and unit is None and facts.high <= 2 * _FEW:
            if not self._guess and name not in self._given.values:
                return
            self._problem(
                f"action {name!r} holds the whole numbers {_listed(sorted(facts.words, key=_number))}",
                f"they are taken for choices; if they are numbers, say low and high in [values.{_quoted(name)}]",
            )
            return
        if not facts.is_whole and -1 <= facts.low and facts.high <= 1:
            return
        low, high = _outward(facts)
        seen = f"{facts.low:g} to {facts.high:g}{f' {unit}' if unit else ''}"
        if not self._guess or low == high:
            if facts.low < -1 or facts.high > 1 or facts.is_whole:
                self._problem(
                    f"action {name!r} is {seen}, beyond [-1, 1] or whole",
                    f"say low and high in [values.{_quoted(name)}], the ends of what the agent can do",
                    is_open=not facts.is_whole,
                )
            return
        self._values[name] = dataclasses.replace(self._values.get(name, Values()), low=low, high=high, unit=unit)
        self._out.comments["values", name] = (
            f"low and high are the ends of what the agent can do, which -1 and 1 stand for; seen {seen}"
        )
        self._problem(
            f"action {name!r} is {seen}, not in [-1, 1]",
            f"it is taken to go from {low:g} to {high:g}; correct low and high in [values.{_quoted(name)}] if "
            "the agent can do more",
        )

    def _look_at_rewards(self, whose: AgentID | None, columns: Mapping[str, list[str]]) -> None:
        names = columns.get("rewards", [])
        if not names:
            self._problem(
                f"no column is called like a reward{f' of {whose}' if whose else ''}",
                f'say what is to grow, out of {_listed(self._free())}: rewards = "COLUMN" in '
                f"{f'[agents.{whose}]' if whose else '[columns]'}; of what is to shrink, say factor = -1 in "
                '[values."COLUMN"] as well',
                is_open=True,
            )
            return
        name = names[0]
        if self._guess and set(_raw_tokens(name)) & _COSTS and self._given.values_of(name, whose).factor == 1:
            self._values[name] = dataclasses.replace(self._values.get(name, Values()), factor=-1.0)
            self._problem(f"reward {name!r} is called a cost", "its negative is the reward (factor = -1)")

    def _look_at_observations(self, whose: AgentID | None, columns: Mapping[str, list[str]]) -> None:
        names = columns.get("observations", [])
        if not names:
            self._problem(
                f"nothing is left for {whose or 'an agent'} to observe",
                f"say observations in {f'[agents.{whose}]' if whose else '[columns]'}",
                is_open=True,
            )
        for name in names:
            facts, known = self._facts[name], self._given.values_of(name, whose)
            is_phase = facts.kind == "number" and facts.is_whole and bool(set(_raw_tokens(name)) & _PHASES)
            is_phase &= 2 < len(facts.words) <= _MOST_ONE_HOT and not facts.has_more
            if known.one_hot or name in self._values or not (facts.kind == "words" or is_phase):
                continue
            words = sorted(facts.words, key=_number)
            if facts.has_more or len(words) > _MOST_ONE_HOT or not self._guess:
                if facts.kind == "words":
                    self._problem(
                        f"observation {name!r} holds {len(words)} words and no numbers",
                        f"leave it out, or list them as one_hot in [values.{_quoted(name)}]",
                        is_open=True,
                    )
                continue
            unit = dataclasses.replace(self._values.get(name, Values()), one_hot=tuple(words))
            self._values[name] = unit
            what = "words" if facts.kind == "words" else "whole numbers, and is called like a phase"
            self._problem(
                f"observation {name!r} holds {_listed(words)}: {what}",
                f"it becomes {len(words)} numbers, 1 for what is there and 0 for the others (one_hot)",
            )
        if self._guess:
            for name in names:
                unit = self._unit(name)
                if unit and self._facts[name].kind == "number" and name not in self._values:
                    self._values[name] = Values(unit=unit)

    def _look_at_ends(self) -> None:
        for whose, columns in self._everyone():
            for key in ("terminals", "timeouts"):
                for name in columns.get(key, []):
                    facts = self._facts[name]
                    if facts.kind != "truth" and not (facts.kind == "number" and {facts.low, facts.high} <= {0.0, 1.0}):
                        self._problem(
                            f"column {name!r} for the {key} holds {_holds(facts)}",
                            "export 0 and 1, or say another column",
                            is_open=True,
                        )
            if "terminals" in columns or self._given.continuing:
                continue
            if self._guess:
                self._rows["continuing"] = True
                self._problem(
                    "no column says that something ended for good",
                    "it is taken for a task that goes on (continuing = true): ends of episodes are only cuts; "
                    'otherwise say terminals = "COLUMN" in [columns]',
                )
            else:
                self._problem(
                    f"no column for the terminals{f' of {whose}' if whose else ''}",
                    'say terminals = "COLUMN" in [columns], or continuing = true in [rows]',
                    is_open=True,
                )

    def _look_at_words(self) -> None:
        used = [name for _, columns in self._everyone() for name in _flat(columns)]
        bad = [self._facts[name] for name in dict.fromkeys(used) if self._facts[name].num_bad]
        words = list(dict.fromkeys(word for facts in bad for word in facts.bad))
        for facts in bad:
            word, row = next(iter(facts.bad.items()))
            more = f" and in {facts.num_bad - 1} more rows" if facts.num_bad > 1 else ""
            fix = "words that are no number count as missing (nothing in [table])"
            is_open = not self._guess or len(words) > _MOST_NOTHING
            self._problem(
                f"column {facts.name!r} holds {word!r} at row {row}{more} among numbers",
                "list such words as nothing in [table], or repair them" if is_open else fix,
                is_open=is_open,
            )
        if bad and self._guess and len(words) <= _MOST_NOTHING:
            self._rows["nothing"] = tuple(words)
        formats = {facts.time_format for facts in self._facts.values() if facts.time_format and facts.name in used}
        if formats and self._guess and not self._given.time_format:
            self._rows["time_format"] = formats.pop()
        for name in dict.fromkeys(used):
            facts = self._facts[name]
            if facts.kind in ("other", "nothing"):
                self._problem(f"column {name!r} holds {_holds(facts)}", "leave it out", is_open=True)

    def _look_at_rows(self) -> None:
        nothing = self._rows.get("nothing", self._given.nothing)
        style = dataclasses.replace(
            self._given, nothing=nothing, time_format=self._rows.get("time_format", self._given.time_format)
        )
        label, step = self._common.get("agent"), self._common.get("step") or self._common.get("timestamps")
        if self._own:
            shared = {key: its for key, its in self._common.items() if key not in ("agent", "episode", "step")}
            needed = {whose: _flat(shared) + _flat(columns) for whose, columns in self._own.items()}
        else:
            needed = {None: [name for key, its in self._common.items() if key not in ("agent",) for name in its]}
        needed = {whose: [name for name in dict.fromkeys(its) if name in self._facts] for whose, its in needed.items()}
        episode = self._common.get("episode")
        found = orders(
            self._found.paths,
            style,
            agent=label[0] if label else None,
            episode=episode[0] if episode else None,
            step=step[0] if step else None,
            is_time=True,
            needed=needed,
        )
        self._out.orders = found
        self._look_at_labels()
        incomplete = {whose: its.incomplete for whose, its in found.items() if its.incomplete}
        if incomplete and self._given.missing == "refuse":
            names = [name for its in needed.values() for name in its if self._facts[name].missing]
            names = [name for name in dict.fromkeys(names) if not self._given.values_of(name).fill]
            first = min((self._facts[name] for name in names), key=lambda facts: facts.first_missing or 0, default=None)
            if first is not None or nothing:
                where = f", first in {first.name!r} at row {first.first_missing}" if first is not None else ""
                self._problem(
                    f"something is missing in {sum(incomplete.values()):,} rows ({_by_agent(incomplete)}){where}",
                    'such rows are left out and episodes end before them (missing = "cut" in [rows]); to let the last '
                    'value stand for a missing one for a few rows, say fill = 2 in [values."COLUMN"]'
                    if self._guess
                    else 'say missing = "cut" in [rows]',
                    is_open=not self._guess,
                )
                self._rows["missing"] = "cut"
        repeated = {whose: its.repeated for whose, its in found.items() if its.repeated}
        shows_steps = step and ("step" in self._common or self._given.every or self._given.sort or self._guess)
        if repeated and shows_steps and self._given.repeated == "refuse":
            self._problem(
                f"{sum(repeated.values()):,} rows repeat a step ({_by_agent(repeated)})",
                'the first of them counts (repeated = "first" in [rows])'
                if self._guess
                else 'say repeated = "first" in [rows]',
                is_open=not self._guess,
            )
            self._rows["repeated"] = "first"
        unsorted = [str(whose) for whose, its in found.items() if not its.is_sorted]
        if unsorted and shows_steps and not self._given.sort:
            self._problem(
                f"rows are not in the order of episodes and steps{_of(unsorted)}",
                "they are sorted first, which takes memory for all of them (sort = true in [rows])"
                if self._guess
                else "say sort = true in [rows]",
                is_open=not self._guess,
            )
            self._rows["sort"] = True
        self._look_at_gaps(found)

    def _look_at_labels(self) -> None:
        for key in ("agent", "episode", "step", "timestamps"):
            for name in self._common.get(key, []):
                facts = self._facts[name]
                if facts.missing:
                    self._problem(
                        f"column {name!r} for the {key} is empty in {facts.missing} rows, first at row "
                        f"{facts.first_missing}",
                        f"name the {key} of every row, or remove those rows",
                        is_open=True,
                    )

    def _look_at_gaps(self, found: Mapping[str | None, Order]) -> None:
        has_step = "step" in self._common
        every = [its.every for its in found.values() if its.every]
        if not has_step and "timestamps" in self._common and every and not self._given.every and self._guess:
            usual = sorted(every)[len(every) // 2]
            if all(its.is_regular for its in found.values()):
                self._rows["every"] = float(f"{usual:.6g}")
            else:
                self._problem(
                    "steps are at irregular times",
                    "they are taken for consecutive; to end an episode where "
                    f"much time passes, say every = {usual:.6g} in [rows], the most between two steps by 1.5",
                )
        lost = {whose: its.lost for whose, its in found.items() if its.lost}
        counts = has_step or "every" in self._rows or self._given.every
        if lost and counts and "next_observations" not in self._common:
            gaps = sum(its.gaps for its in found.values())
            self._problem(
                f"{sum(lost.values()):,} steps are missing in {gaps:,} places ({_by_agent(lost)})",
                "an episode ends at each, for the agent concerned only; a row before it has no next observation and is "
                "lost. To make a few steps up, say fill in [values] of all observations, actions and rewards",
            )

    def _unit(self, name: str) -> str | None:
        """The unit that the last word of a name says; a lone letter among others of its kind is none."""
        *stem, last = _raw_tokens(name)
        if not stem or last not in _UNITS:
            return None
        kin = [_raw_tokens(other) for other in self._present if other != name]
        among = any(other[:-1] == stem and len(other[-1]) == 1 and other[-1] != last for other in kin if other)
        return None if len(last) == 1 and among else _UNITS[last]

    # what is told

    def _free(self) -> list[str]:
        used = {name for _, columns in self._everyone() for name in _flat(columns)}
        left = [name for name in self._present if name not in used]
        return left or self._present

    def _describe_columns(self) -> None:
        for name in self._present:
            self._out.roles[name] = Role("left out", remark=self._why_left(name))
        for whose, columns in self._everyone():
            for key, names in columns.items():
                for name in names:
                    before = self._out.roles[name].whose if self._out.roles[name].key == key else ""
                    shared = whose is not None and (self._common.get(key) == names or bool(before))
                    self._out.roles[name] = Role(key, "all" if shared else whose or "")

    def _why_left(self, name: str) -> str:
        facts = self._facts[name]
        if facts.rows > 1 and facts.kind in ("words", "number"):
            if len(facts.words) == 1 and not facts.missing:
                return "never changes"
        if facts.kind == "words" and self._guess:
            return "too many words" if facts.has_more or len(facts.words) > _MOST_ONE_HOT else ""
        return {"nothing": "empty", "other": f"holds {facts.type}", "time": "a time"}.get(facts.kind, "")

    def _finish(self) -> None:
        agents = dict(self._agents)
        for agent, columns in self._own.items():
            if not self._given.has_own_columns:
                agents[agent] = dataclasses.replace(
                    agents[agent], columns={key: tuple(names) for key, names in columns.items()}
                )
        columns = dict(self._given.columns)
        if self._guess:
            columns |= {key: tuple(names) for key, names in self._common.items() if key not in columns}
        columns = {key: columns[key] for key in KEYS if key in columns}
        self._out.mapping = dataclasses.replace(
            self._given,
            columns=columns if self._guess else self._given.columns,
            values=self._values,
            agents=agents,
            **(self._rows if self._guess else {}),
        )


def _flat(columns: Mapping[str, Iterable[str]]) -> list[str]:
    return [name for names in columns.values() for name in names]


def _raw_tokens(name: str) -> list[str]:
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [part.lower() for part in re.split(r"[^A-Za-z]+", spaced) if part]


def _tokens(name: str) -> list[str]:
    """The words of a name, without those that only say a unit or that it is a number."""
    tokens = _raw_tokens(name)
    return [token for place, token in enumerate(tokens) if place == 0 or token not in _FILLERS]


def _file_names(labels: Iterable[str]) -> dict[str, AgentID]:
    """Names of agents that can name a file, by what a table calls them."""
    names: dict[str, AgentID] = {}
    taken: set[str] = set()
    for label in labels:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", label).strip("._-")[:90] or "agent"
        number, unique = 2, name
        while unique.lower() in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique.lower())
        names[label] = unique
    return dict(sorted(names.items(), key=lambda item: by_number(item[1])))


def _outward(facts: Facts) -> tuple[float, float]:
    """Ends a little beyond what was seen, in round numbers."""
    if facts.is_whole or facts.low == facts.high:
        return facts.low, facts.high
    step = 10.0 ** (math.floor(math.log10(facts.high - facts.low)) - 1)
    digits = max(0, -math.floor(math.log10(step)))
    return round(math.floor(facts.low / step) * step, digits), round(math.ceil(facts.high / step) * step, digits)


def _number(word: str) -> tuple[float, str]:
    try:
        return float(word), word
    except ValueError:
        return math.inf, word


def _listed(words: Iterable[str], most: int = 8) -> str:
    words = list(words)
    return ", ".join(word[:40] for word in words[:most]) + (f", ... ({len(words)})" if len(words) > most else "")


def _by_agent(counts: Mapping[str | None, int]) -> str:
    if set(counts) == {None}:
        return "in all"
    return _listed([f"{whose} {count:,}" for whose, count in counts.items()])


def _of(agents: list[str]) -> str:
    return "" if agents == ["None"] else f" ({_listed(agents)})"


def _holds(facts: Facts) -> str:
    if facts.kind == "words":
        return _listed(facts.words, 4)
    return facts.type if facts.kind in ("other", "nothing") else f"{facts.low:g} to {facts.high:g}"


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'
