"""What is told of many agents in the same words, told once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

_OF_AGENT = re.compile(
    r'(?P<before>.*?)logs of agent (?P<agent>"(?:[^"\\]|\\.)*")(?P<after>(?: \([^)]*\))?): (?P<text>.*)', re.S
)
_OF_FILE = re.compile(r"(?P<folder>(?:[^:]|:(?! ))*/)(?P<file>[^/:]+): (?P<text>.*)", re.S)
_OF_COLUMN = {  # notes on a column, and what goes between several
    re.compile(r"(?P<before>.*: )(?P<column>[a-z_]+)(?P<after> came as .*)", re.S): ", ",
    re.compile(r"(?P<before>.*: no column for )(?P<column>the [a-z]+, so [^;]*)(?P<after>)", re.S): "; none for ",
}
_FILE = re.compile(r"/[^/:]+: $")  # of a folder that has one for each agent
_NUMBER = re.compile(r"[0-9]+(?:[,.][0-9]+)*")
_MOST_NAMED = 6


def grouped(notes: Iterable[str]) -> list[str]:
    """The notes in their order, those that differ in nothing but the agent, its file, and in numbers, as one.

    So are those on several columns, and those on several files of a folder, of which the same is told.
    """
    return _of_columns(_of_files(_of_agents(dict.fromkeys(notes))))


def _of_files(notes: Iterable[str]) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        match = _OF_FILE.fullmatch(note)
        key = ("", note) if match is None else (match["folder"], match["text"])
        found.setdefault(key, []).append("" if match is None else match["file"])
    return [
        text if not folder else f"{folder}{files[0]}: {text}" if len(files) < 2 else f"{_named(folder, files)}: {text}"
        for (folder, text), files in found.items()
    ]


def _named(folder: str, files: Sequence[str]) -> str:
    """Several files of a folder."""
    more = ", ..." if len(files) > _MOST_NAMED else ""
    return f"{folder.rstrip('/')}: {len(files)} files ({', '.join(files[:_MOST_NAMED])}{more})"


def _of_columns(notes: Iterable[str]) -> list[str]:
    found: dict[tuple[str, ...], list[str]] = {}
    for note in notes:
        matches = ((pattern.fullmatch(note), between) for pattern, between in _OF_COLUMN.items())
        match, between = next((one for one in matches if one[0]), (None, ""))
        if match is None:
            found.setdefault((note, "", ""), []).append("")
        else:
            found.setdefault((match["before"], between, match["after"]), []).append(match["column"])
    return [f"{before}{between.join(columns)}{after}" for (before, between, after), columns in found.items()]


def _of_agents(notes: Iterable[str]) -> list[str]:
    found: dict[str, list[tuple[str, str, str]]] = {}
    for note in notes:
        match = _OF_AGENT.fullmatch(note)
        if match is None:
            found.setdefault(note, [])
            continue
        key = f"{_FILE.sub(': ', match['before'])}\0{_NUMBER.sub('#', match['text'])}"
        agent = json.loads(match["agent"])
        found.setdefault(key, []).append((agent, match["text"], note))
    return [_told(key, its) for key, its in found.items()]


def _told(key: str, its: list[tuple[str, str, str]]) -> str:
    if len(its) < 2:
        return its[0][2] if its else key
    agents = list(dict.fromkeys(agent for agent, _, _ in its))
    named = ", ".join(agents[:_MOST_NAMED]) + (", ..." if len(agents) > _MOST_NAMED else "")
    before = its[0][2].partition("logs of agent ")[0]
    if any(not note.startswith(f"{before}logs of agent ") for _, _, note in its):
        before = key.partition("\0")[0]
    return f"{before}logs of {len(agents)} agents ({named}): {_ranges([text for _, text, _ in its])}"


def _ranges(texts: list[str]) -> str:
    """One text for several that differ in numbers, with the least and the greatest of each."""
    columns = list(zip(*(_NUMBER.findall(text) for text in texts), strict=True))
    shown = iter([_range(column) for column in columns])
    return _NUMBER.sub(lambda _: next(shown), texts[0])


def _range(numbers: tuple[str, ...]) -> str:
    ordered = sorted(set(numbers), key=lambda number: float(number.replace(",", "")) if number.count(".") < 2 else 0.0)
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
