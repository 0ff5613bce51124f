"""What a column is likely to be, by its name and by what is in it."""

from __future__ import annotations

from collections.abc import Collection

from marline.data.formats.survey import Facts
from marline.data.proposal.names import ACTIONS, ENDINGS, KEYS_OF_ROWS, LONE, NAMES, raw_words, words

MOST_ONE_HOT = 30  # words that become a number each


def may_be(facts: Facts, key: str, called: str | None = None) -> bool:
    """Whether a column, or what it is called without the name of its agent, may be the only one of a key."""
    tokens = words(facts.name if called is None else called)
    if key == "agent":
        fits = facts.is_labels and not facts.has_more and 0 < len(facts.words) < max(2, facts.rows // 2)
    elif key == "episode":
        fits = facts.is_labels or facts.kind == "time" and bool(facts.words)
        fits &= len(facts.words) < max(2, facts.rows) or facts.has_more
        fits &= not may_be(facts, "terminals", called)  # game_over is no game
    elif key == "step":
        fits = facts.kind == "number" and facts.is_whole
    elif key == "timestamps":
        fits = facts.kind == "time" or facts.kind == "number"
    elif key == "rewards":
        fits = facts.kind == "number"
    else:
        fits = facts.is_truth
    if not fits:
        return False
    return _is_called(tokens, NAMES[key], key) or (key == "timestamps" and facts.kind == "time" and not facts.words)


def is_action(facts: Facts, called: str) -> bool:
    """Whether a column is called like something that an agent does."""
    return facts.kind in ("number", "words", "truth") and _is_called(words(called), ACTIONS, "actions")


def _is_called(tokens: list[str], known: Collection[str], key: str) -> bool:
    """Whether the words of a name say a key: the first or the last of them, or the only one."""
    if not tokens:
        return False
    lone = len(tokens) == 1 and tokens[0] in LONE.get(key, ())
    return lone or tokens[0] in known or tokens[-1] in known or tokens[-1] in ENDINGS.get(key, ())


def may_be_seen(facts: Facts) -> bool:
    """Whether a column may be observed: it changes, and does not only count rows."""
    raw = raw_words(facts.name)
    if facts.is_whole and (not facts.name.strip() or raw == ["unnamed"]):
        return False  # the numbers of rows that pandas writes beside them
    if facts.rows > 1 and (len(facts.words) == 1 if facts.kind == "words" else facts.low == facts.high):
        return False  # it never changes
    if facts.kind == "words":
        return not facts.has_more and len(facts.words) <= MOST_ONE_HOT
    if facts.kind not in ("number", "truth"):
        return False
    counts_rows = facts.is_whole and facts.has_more and bool(set(raw) & KEYS_OF_ROWS)
    return not counts_rows and not (raw and raw[-1] in KEYS_OF_ROWS and facts.is_whole)
