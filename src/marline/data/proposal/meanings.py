"""What the values in columns mean: ranges and choices of actions, costs, words that become numbers, ends."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping

from marline.data.formats.survey import Facts
from marline.data.mapping import Values
from marline.data.proposal.draft import Draft, flat, listed, quoted
from marline.data.proposal.likely import MOST_ONE_HOT
from marline.data.proposal.names import COSTS, PHASES, raw_words, unit_of
from marline.types import AgentID

_MOST_CHOICES, _FEW = 200, 10
_MOST_NOTHING = 20


def look_at_values(draft: Draft) -> None:
    """Find out what the values of all columns that are used mean."""
    for whose, columns in draft.everyone():
        _look_at_actions(draft, whose, columns)
        _look_at_rewards(draft, whose, columns)
        _look_at_observations(draft, whose, columns)
    _look_at_reward_scope(draft)
    _look_at_ends(draft)
    _look_at_words(draft)
    _look_at_strange_words(draft)


def _look_at_actions(draft: Draft, whose: AgentID | None, columns: Mapping[str, list[str]]) -> None:
    names = columns.get("actions", [])
    if not names:
        of_whom, where = _whose(draft, whose)
        draft.problem(
            f"no column is called like an action{of_whom}",
            f"say what the agent does, out of {listed(_free(draft, columns))}: --column actions=NAME, or a pattern; "
            f'or, in the mapping file, actions = ["COLUMN"] in {where}, and not in observations',
            is_open=True,
        )
        return
    for name in names:
        facts, known = draft.facts[name], draft.given.values_of(name, whose)
        if known.choices or known.one_hot or (known.low is not None and known.high is not None):
            continue
        if facts.kind == "words":
            _choose(draft, name, facts, len(names))
        elif facts.kind in ("number", "truth") and facts.width == 1:
            _range(draft, name, facts, len(names))


def _choose(draft: Draft, name: str, facts: Facts, num_actions: int) -> None:
    words = sorted(facts.words)
    if facts.has_more or len(words) > _MOST_CHOICES:
        draft.problem(
            f"action {name!r} holds over {_MOST_CHOICES} words",
            "no agent has so many choices; say another action",
            is_open=True,
        )
    elif num_actions > 1:
        draft.problem(
            f"action {name!r} holds words, and there are {num_actions} actions",
            "an agent has one choice or several numbers; leave one of them in actions",
            is_open=True,
        )
    elif draft.guess:
        draft.values[name] = dataclasses.replace(draft.values.get(name, Values()), choices=tuple(words))
        draft.problem(
            f"action {name!r} holds the words {listed(words)}",
            f"they are choices 0 to {len(words) - 1}; the order in choices is theirs",
        )
    else:
        draft.problem(
            f"action {name!r} holds the words {listed(words)}",
            f"list them in [values.{quoted(name)}]: choices = {json.dumps(words, ensure_ascii=False)}",
            is_open=True,
        )


def _range(draft: Draft, name: str, facts: Facts, num_actions: int) -> None:
    if facts.kind == "truth":
        return
    if facts.low == facts.high:
        draft.problem(
            f"action {name!r} is always {facts.low:g}",
            "nothing is learned from it; say another action",
            is_open=num_actions == 1,
        )
    unit = unit_of(name, draft.present)
    few = facts.is_whole and len(facts.words) <= _FEW and not facts.has_more and 0 <= facts.low
    if facts.is_whole and num_actions == 1 and few and unit is None and facts.high <= 2 * _FEW:
        if not draft.guess and name not in draft.given.values:
            return
        draft.problem(
            f"action {name!r} holds the whole numbers {listed(sorted(facts.words, key=_number))}",
            f"they are taken for choices; if they are numbers, say low and high in [values.{quoted(name)}]",
        )
        return
    if not facts.is_whole and -1 <= facts.low and facts.high <= 1:
        return
    low, high = _outward(facts)
    seen = f"{facts.low:g} to {facts.high:g}{f' {unit}' if unit else ''}"
    if not draft.guess or low == high:
        if facts.low < -1 or facts.high > 1 or facts.is_whole:
            draft.problem(
                f"action {name!r} is {seen}, beyond [-1, 1] or whole",
                f"say the ends of what the agent can do in [values.{quoted(name)}], such as low = {low:g} and "
                f"high = {high:g}",
                is_open=not facts.is_whole,
            )
        return
    draft.values[name] = dataclasses.replace(draft.values.get(name, Values()), low=low, high=high, unit=unit)
    draft.comments["values", name] = (
        f"low and high are the ends of what the agent can do, which -1 and 1 stand for; seen {seen}"
    )
    draft.problem(
        f"action {name!r} is {seen}, not in [-1, 1]",
        f"it is taken to go from {low:g} to {high:g}; correct low and high in [values.{quoted(name)}] if "
        "the agent can do more",
    )


def _look_at_rewards(draft: Draft, whose: AgentID | None, columns: Mapping[str, list[str]]) -> None:
    names = columns.get("rewards", [])
    if not names:
        of_whom, where = _whose(draft, whose)
        draft.problem(
            f"no column is called like a reward{of_whom}",
            f"say what is to grow, out of {listed(_free(draft, columns))}: --column rewards=NAME, or a pattern; or, in "
            f'the mapping file, rewards = "COLUMN" in {where}, and not in observations; of what is to shrink, say '
            'factor = -1 in [values."COLUMN"] as well',
            is_open=True,
        )
        return
    name = names[0]
    if draft.guess and set(raw_words(name)) & COSTS and draft.given.values_of(name, whose).factor == 1:
        draft.values[name] = dataclasses.replace(draft.values.get(name, Values()), factor=-1.0)
        draft.problem(f"reward {name!r} is called a cost", "its negative is the reward (factor = -1)")


def _look_at_reward_scope(draft: Draft) -> None:
    """Ask whose the rewards are, where there are several agents and columns do not tell."""
    label = draft.common.get("agent")
    several = len(draft.facts[label[0]].words) > 1 if label else len(draft.found.paths) > 1
    is_said = bool(draft.given.rewards) or "rewards" in draft.rows or draft.is_joint
    if draft.guess and several and not is_said and all("rewards" in its for _, its in draft.everyone()):
        draft.problem(
            "nobody said whose the rewards are",
            "they are taken as they are; if each agent has its own, say --rewards per-agent, or rewards = "
            '"per-agent" at the top of the mapping; if all have one together, "shared"',
        )


def _look_at_observations(draft: Draft, whose: AgentID | None, columns: Mapping[str, list[str]]) -> None:
    names = columns.get("observations", [])
    if not names:
        draft.problem(
            f"nothing is left for {whose or 'an agent'} to observe",
            f"say observations in {f'[agents.{whose}]' if whose else '[columns]'}",
            is_open=True,
        )
    for name in names:
        facts, known = draft.facts[name], draft.given.values_of(name, whose)
        is_phase = facts.kind == "number" and facts.is_whole and bool(set(raw_words(name)) & PHASES)
        is_phase &= 2 < len(facts.words) <= MOST_ONE_HOT and not facts.has_more
        if known.one_hot or name in draft.values or not (facts.kind == "words" or is_phase):
            continue
        words = sorted(facts.words, key=_number)
        if facts.has_more or len(words) > MOST_ONE_HOT or not draft.guess:
            if facts.kind == "words":
                draft.problem(
                    f"observation {name!r} holds {len(words)} words and no numbers",
                    f"leave it out, or list them as one_hot in [values.{quoted(name)}]",
                    is_open=True,
                )
            continue
        unit = dataclasses.replace(draft.values.get(name, Values()), one_hot=tuple(words))
        draft.values[name] = unit
        what = "words" if facts.kind == "words" else "whole numbers, and is called like a phase"
        draft.problem(
            f"observation {name!r} holds {listed(words)}: {what}",
            f"it becomes {len(words)} numbers, 1 for what is there and 0 for the others (one_hot)",
        )
    if draft.guess:
        for name in names:
            unit = unit_of(name, draft.present)
            if unit and draft.facts[name].kind == "number" and name not in draft.values:
                draft.values[name] = Values(unit=unit)


def _look_at_ends(draft: Draft) -> None:
    for whose, columns in draft.everyone():
        for key in ("terminals", "timeouts"):
            for name in columns.get(key, []):
                facts = draft.facts[name]
                if not facts.is_truth and not draft.given.values_of(name, whose).choices:
                    draft.problem(
                        f"column {name!r} for the {key} holds {_holds(facts)}",
                        f"say another column, or which word is no and which is yes: choices = {_no_and_yes(facts)} in "
                        f"[values.{quoted(name)}]",
                        is_open=True,
                    )
        if "terminals" in columns or draft.given.continuing:
            continue
        if draft.guess:
            draft.rows["continuing"] = True
            draft.problem(
                "no column says that something ended for good",
                "it is taken for a task that goes on (continuing = true): ends of episodes are only cuts; "
                'otherwise say terminals = "COLUMN" in [columns]',
            )
        else:
            draft.problem(
                f"no column for the terminals{f' of {whose}' if whose else ''}",
                'say terminals = "COLUMN" in [columns], or continuing = true in [rows]',
                is_open=True,
            )


def _look_at_words(draft: Draft) -> None:
    used = list(dict.fromkeys(name for _, columns in draft.everyone() for name in flat(columns)))
    bad = [draft.facts[name] for name in used if draft.facts[name].num_bad]
    words = list(dict.fromkeys(word for facts in bad for word in facts.bad))
    for facts in bad:
        word, place = next(iter(facts.bad.items()))
        more = f" and in {facts.num_bad - 1} more rows" if facts.num_bad > 1 else ""
        fix = "words that are no number count as missing (nothing in [table])"
        is_open = not draft.guess or len(words) > _MOST_NOTHING
        draft.problem(
            f"column {facts.name!r} holds {word!r} at {draft.found.where(place)}{more} among numbers",
            "list such words as nothing in [table], or repair them" if is_open else fix,
            is_open=is_open,
        )
    if bad and draft.guess and len(words) <= _MOST_NOTHING:
        draft.rows["nothing"] = tuple(words)
    formats = {facts.time_format for facts in draft.facts.values() if facts.time_format and facts.name in used}
    if formats and draft.guess and not draft.given.time_format:
        draft.rows["time_format"] = formats.pop()
    for name in used:
        if (other := draft.facts[name].other_format) and not draft.given.time_format:
            draft.problem(
                f"times in column {name!r} may be written {draft.facts[name].time_format!r} or {other!r}",
                "they are taken for the former; correct time_format in [table] if they are not",
            )
    for name in used:
        facts = draft.facts[name]
        if facts.kind in ("other", "nothing"):
            draft.problem(f"column {name!r} holds {_holds(facts)}", "leave it out", is_open=True)


def _look_at_strange_words(draft: Draft) -> None:
    """Words that are not among those that were listed."""
    for whose, columns in draft.everyone():
        for name in dict.fromkeys(flat({key: columns.get(key, []) for key in ("observations", "actions")})):
            facts, known = draft.facts[name], draft.given.values_of(name, whose)
            listed_words = {*known.one_hot, *known.choices}
            strange = [word for word in facts.words if listed_words and word not in listed_words]
            if not strange:
                continue
            which, ways = ("one_hot", '"missing" or "zeros"') if known.one_hot else ("choices", '"missing"')
            told = {"missing": "they count as missing (other)", "zeros": "they are none of its words (other)"}
            draft.problem(
                f"column {name!r} holds {listed(strange)}, which {which} do not list",
                told.get(
                    known.other,
                    f"add them, or say other = {ways} in [values.{quoted(name)}]; where policies were learned already, "
                    f"the latter, for they take as many words as were listed",
                ),
                is_open=known.other == "refuse",
            )


def _whose(draft: Draft, whose: AgentID | None) -> tuple[str, str]:
    """Of whom a column is missing, and where in a mapping it is said."""
    if whose is None:
        return "", "[columns]"
    if len(draft.found.paths) > 1:  # a column of each table, most likely of one name
        return f" of {whose}", f"[columns], or, where names differ, in [agents.{quoted(whose)}]"
    return f" of {whose}", f"[agents.{quoted(whose)}]"


def _free(draft: Draft, columns: Mapping[str, list[str]]) -> list[str]:
    """What an agent may do or want: what it is taken to observe, and what nobody uses."""
    used = {name for _, its in draft.everyone() for name in flat(its)} - set(columns.get("observations", ()))
    return [name for name in draft.present if name not in used and draft.facts[name].kind != "time"]


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


def _no_and_yes(facts: Facts) -> str:
    """The two words of a column, the more frequent one first: ends are rare."""
    two = [word for word, _ in facts.words.most_common()]
    return json.dumps(two if len(two) == 2 and not facts.has_more else ["no", "yes"], ensure_ascii=False)


def _holds(facts: Facts) -> str:
    if facts.kind == "words":
        return listed(facts.words, 4)
    return facts.type if facts.kind in ("other", "nothing") else f"{facts.low:g} to {facts.high:g}"
