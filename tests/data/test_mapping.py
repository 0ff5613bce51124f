"""What is said of a log: the file, what it refuses, and that it comes back as it was."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from marline.data.mapping import AgentMapping, ImportMapping, Values, from_document, matches, read_mapping
from marline.data.notes import grouped
from marline.data.toml import to_toml
from marline.errors import ConfigError

TEXT = """
version = 1
[table]
separator = ";"
decimal = ","
nothing = ["ERR"]
[rows]
continuing = true
missing = "cut"
every = 30
[columns]
agent = "signal"
observations = ["queue_*", "load [%]", "a,b"]
[values.green]
low = 5
high = 60
unit = "s"
[values."queue_*"]
fill = 2
[values.phase]
one_hot = ["NS", 2]
other = "zeros"
[agents.north]
from = "N/1"
[agents.north.values.green]
high = 40
[agents.south]
discrete = 3
"""


def test_a_file_is_read_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "import.toml").write_text(TEXT)
    mapping = read_mapping(tmp_path / "import.toml")
    assert mapping.columns == {"agent": ("signal",), "observations": ("queue_*", "load [%]", "a,b")}
    assert (mapping.separator, mapping.decimal, mapping.nothing, mapping.every) == (";", ",", ("ERR",), 30)
    assert mapping.values["phase"] == Values(one_hot=("NS", "2"), other="zeros")
    assert mapping.values_of("queue_n").fill == 2 and mapping.values_of("green") == Values(5.0, 60.0, "s")
    assert mapping.values_of("green", "north") == Values(5.0, 40.0, "s")  # what is said of an agent wins
    assert mapping.agent_of("N/1") == "north" and mapping.agent_of("south") == "south"
    assert mapping.split is not None and mapping.split["south"].num_actions == 3
    assert from_document(mapping.to_document(), "again") == mapping
    text = to_toml(mapping.to_document(), {("rows",): "two\nlines \x1b[31m"}, "head")
    assert from_document(tomllib.loads(text), "again") == mapping
    assert text.startswith("# head\n") and "# two\n# lines ?[31m\n[rows]" in text


@pytest.mark.parametrize("text", ['a"b', "tab\tend", "new\nline", "\x7f\x00", "\ud800", "π €", "", "a.b", "[x]", "#"])
def test_any_text_is_written_as_toml(text: str) -> None:
    document = {text: text, "list": [text, "b" * 120], "table": {text: {"x": 1.5, "yes": True}}}
    sound = text.encode("utf-8", "replace").decode()
    back = tomllib.loads(to_toml(document, {("list",): text}, text))
    assert back == {sound: sound, "list": [sound, "b" * 120], "table": {sound: {"x": 1.5, "yes": True}}}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"colums": {}}, "unknown key of m 'colums'; did you mean 'columns'"),
        ({"columns": {"reward": "r"}}, "unknown key of m: columns 'reward'; did you mean 'rewards'"),
        ({"columns": {"rewards": 3}}, r"m: columns.rewards is 3; give the name of a column"),
        ({"columns": {"rewards": [""]}}, "must be a text of 1 to 500 letters"),
        ({"columns": []}, "must be a table of keys and values"),
        ({"version": 2}, "this marline reads 1"),
        ({"rows": {"missing": "drop"}}, "m: rows.missing is 'drop'; choose 'refuse' or 'cut'"),
        ({"rows": {"every": -1}}, "give a time above 0"),
        ({"rows": {"sort": "yes"}}, "is true or false"),
        ({"table": {"separator": "ab"}}, "choose one of"),
        ({"table": {"decimal": ","}}, "cannot be both separator and decimal"),
        ({"table": {"encoding": "rot13"}}, "choose one of 'utf-8'"),
        ({"values": {"a": {"low": 2, "high": 1}}}, "give the lower first"),
        ({"values": {"a": {"low": float("nan")}}}, "m: values.a.low is nan; give a number"),
        ({"values": {"a": {"factor": 0}}}, "leaves nothing"),
        ({"values": {"a": {"fill": 10**9}}}, "at most 1000"),
        ({"values": {"a": {"one_hot": ["x", "x"]}}}, "lists a word twice"),
        ({"values": {"a": {"one_hot": ["x"], "choices": ["y"]}}}, "one_hot or choices"),
        ({"values": {"a": {"choices": ["y"], "low": 1}}}, "words have no low, high or factor"),
        ({"agents": {"../x": {}}}, "cannot name a file"),
        ({"agents": {"a": {"from": "x"}, "b": {"from": "x"}}}, "are both 'x'"),
        ({"agents": {"a": {"actions": [0]}, "b": {"actions": [0]}}}, "gives action 0 to 'a' and 'b'"),
        ({"values": {"x": {"choices": ["a"], "other": "zeros"}}}, "choose 'refuse' or 'missing'"),
        ({"values": {"x": {"other": "missing"}}}, "is about words"),
        ({"agents": {"a": {"step": "t"}}}, "unknown key of m: agents.a 'step'"),
        ({"columns": {"agent": "x"}, "agents": {"a": {"actions": "u"}}}, "leave out one of them"),
    ],
)
def test_what_cannot_be_is_named(document: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        from_document(document, "m")
    assert len(str(caught.value)) < 600


def test_files_that_are_no_mapping(tmp_path: Path) -> None:
    path = tmp_path / "import.toml"
    for content, told in (
        (b"\xff\xfe", "is no mapping"),
        (b"a = ", "is not TOML"),
        (b"a = " + b"[" * 100_000, "is not TOML"),
        (b"#" * (2 << 20), "is no mapping"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=told):
            read_mapping(path)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match="is a symbolic link"):
        read_mapping(path)


def test_patterns_mean_themselves_but_for_stars() -> None:
    assert matches("queue[*]", "queue[0]") and not matches("queue[0]", "queue0")
    assert matches("a?c", "abc") and not matches("a?c", "ac") and not matches("a.c", "abc")
    assert not matches("*a" * 60 + "b", "a" * 200)  # in no time


def test_own_columns_come_before_those_of_everyone() -> None:
    mapping = ImportMapping(columns={"rewards": ("r",)}, agents={"a": AgentMapping(columns={"rewards": ("mine",)})})
    assert mapping.has_own_columns and mapping.columns_of("a") == {"rewards": ("mine",)}
    assert mapping.columns_of(None) == {"rewards": ("r",)}


def test_notes_of_many_agents_are_one() -> None:
    notes = [f'x.csv: logs of agent "a{i}": {10 + i} rows were left out' for i in range(3)]
    assert grouped(["first", *notes, "last", "last"]) == [
        "first",
        "x.csv: logs of 3 agents (a0, a1, a2): 10 to 12 rows were left out",
        "last",
    ]
    assert grouped(notes[:1]) == notes[:1]
    assert grouped(f"/days/{note}" for note in notes)[0].startswith("/days/x.csv: logs of 3 agents (a0, a1, a2): ")
    files = [f'/days/a{i}.csv: logs of agent "a{i}": {10 + i} rows were left out' for i in range(2)]
    assert grouped(files) == ["/days: logs of 2 agents (a0, a1): 10 to 11 rows were left out"]


def test_notes_of_many_files_are_one() -> None:
    notes = [f"/days/{file}: no column for the timeouts" for file in ("a.csv", "b.csv")]
    assert grouped([*notes, "/weeks/a.csv: no column for the timeouts", "/days/a.csv: other"]) == [
        "/days: 2 files (a.csv, b.csv): no column for the timeouts",
        "/weeks/a.csv: no column for the timeouts",
        "/days/a.csv: other",
    ]
    assert grouped(['logs of agent "[/b] \\"": odd', 'logs of agent "b": odd']) == ['logs of 2 agents ([/b] ", b): odd']
