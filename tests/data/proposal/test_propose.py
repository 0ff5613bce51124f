"""What is guessed of a table, and what is left to the user."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
from marline.data.dataset import load  # noqa: E402
from marline.data.decentralize import import_log  # noqa: E402
from marline.data.formats import open_log  # noqa: E402
from marline.data.formats.survey import survey  # noqa: E402
from marline.data.mapping import ImportMapping, Values  # noqa: E402
from marline.data.proposal.draft import Proposal  # noqa: E402
from marline.data.proposal.mapping_file import to_text  # noqa: E402
from marline.data.proposal.propose import propose  # noqa: E402
from marline.data.proposal.text import lines  # noqa: E402
from marline.errors import DataError  # noqa: E402

ROWS = 40


def proposed(folder: Path, header: str, row: Callable[[int], str], given: ImportMapping | None = None) -> Proposal:
    """Of a CSV table with such rows, by their number."""
    path = folder / "table.csv"
    path.write_text("\n".join([header, *map(row, range(ROWS))]))
    said = given or ImportMapping()
    return propose(survey([path], said), said)


def roles(found: Proposal) -> dict[str, str]:
    return {name: f"{role.key} {role.whose}".strip() for name, role in found.roles.items()}


def test_a_column_that_no_word_tells_is_the_agents_where_it_alone_tells_steps_apart(tmp_path: Path) -> None:
    found = proposed(
        tmp_path, "who,tick,x,speed_cmd,score", lambda n: f"{'ab'[n % 2]},{n // 2},{n / 7},{n / 99},{n % 5}"
    )
    assert roles(found)["who"] == "agent" and set(found.mapping.agents) == {"a", "b"}
    assert not found.is_open and found.orders["a"].repeated == 0


def test_many_repeated_steps_are_for_the_user_to_explain(tmp_path: Path) -> None:
    found = proposed(tmp_path, "tick,x,speed_cmd,score", lambda n: f"{n // 2},{n / 7},{n / 99},{n % 5}")
    (problem,) = [one for one in found.problems if one.is_open]
    assert "20 rows repeat a step (in all), so many that something is taken amiss" in problem.text
    assert found.mapping.repeated == "refuse"


def test_columns_side_by_side_are_known_by_their_mark_and_shared_out_by_what_was_said(tmp_path: Path) -> None:
    header = "t,L/winkel,L/moment,L/punkte,R/winkel,R/moment,R/punkte,licht"

    def row(n: int) -> str:
        return f"{n},{n / 7},{n / 9},{n % 3},{n / 8},{n / 5},{n % 4},{n % 7}"

    found = proposed(tmp_path, header, row)
    assert roles(found)["L/winkel"] == "observations L"
    assert [one.text for one in found.problems if one.is_open] == [
        f"no column is called like {what} of {agent}" for agent in "LR" for what in ("an action", "a reward")
    ]
    text = "\n".join(lines("table.csv", found))
    assert "no column is called like an action of L; likewise of R" in text

    said = ImportMapping(columns={"actions": ("*moment",), "rewards": ("*punkte",)})
    found = proposed(tmp_path, header, row, said)
    assert not found.is_open
    assert found.mapping.columns == {"step": ("t",)}
    assert found.mapping.agents["R"].columns == {
        "observations": ("R/winkel", "licht"),
        "actions": ("R/moment",),
        "rewards": ("R/punkte",),
    }


def test_entries_of_vectors_are_no_agents(tmp_path: Path) -> None:
    found = proposed(
        tmp_path,
        "tick,pos[1],pos[2],vel[1],vel[2],score",
        lambda n: f"{n},{n / 7},{n / 9},{n / 3},{n / 8},{n % 4}",
        ImportMapping(columns={"actions": ("vel*",)}),
    )
    assert roles(found)["pos[1]"] == "observations" and set(found.mapping.agents) == {"table"}


def test_yes_and_no_tell_ends_and_a_step_is_rounded_to_what_times_can_tell(tmp_path: Path) -> None:
    found = proposed(
        tmp_path,
        "time,x,over_speed,u,reward,game_over",
        lambda n: f"2026-03-14 08:00:{n // 10:02d}.{n % 10},{n / 7},{n % 2},{n / 99},{n},{('no', 'yes')[n % 20 == 19]}",
    )
    assert roles(found)["game_over"] == "terminals" and roles(found)["u"] == "actions"
    assert roles(found)["over_speed"] == "observations"
    assert found.mapping.every == 0.1


def test_words_of_another_language_for_an_end_and_units_in_brackets(tmp_path: Path) -> None:
    head = "t,x [kg],y (m/s),z[a],u [Nm],Abbruch,reward"
    given = ImportMapping(columns={"terminals": ("Abbruch",)})

    def row(n: int) -> str:
        return f"{n % 10},{n / 7},{n / 9},{n / 5},{n / 99},{('nein', 'ja')[n % 10 == 9]},{n}"

    found = proposed(tmp_path, head, row, given)
    (problem,) = [its for its in found.problems if "Abbruch" in its.text]
    assert problem.is_open and 'choices = ["nein", "ja"] in [values.Abbruch]' in problem.fix
    assert {name: its.unit for name, its in found.mapping.values.items()} == {"x [kg]": "kg", "y (m/s)": "m/s"}
    given = dataclasses.replace(given, values={"Abbruch": Values(choices=("nein", "ja"))})
    assert not [its for its in proposed(tmp_path, head, row, given).problems if "Abbruch" in its.text]


def test_days_and_months_that_may_be_exchanged_are_told(tmp_path: Path) -> None:
    found = proposed(tmp_path, "time,x,u,reward", lambda n: f"03/04/2026 08:{n:02d},{n / 7},{n / 99},{n}")
    assert "may be written '%d/%m/%Y %H:%M' or '%m/%d/%Y %H:%M'" in "\n".join(lines("table.csv", found))


def test_agents_with_a_table_each_have_each_its_own_columns(tmp_path: Path) -> None:
    """Robots that see different things log different columns; a mapping that says so is read so."""
    (tmp_path / "arm.csv").write_text(
        "episode,step,x,speed,move,reward\n0,0,1,2,.1,1\n0,1,2,3,.2,1\n0,2,3,4,.3,0\n0,3,4,,.3,0\n"
    )
    (tmp_path / "base.csv").write_text("episode,step,x,move,reward\n0,0,5,.1,1\n0,1,6,.2,1\n0,2,7,.4,0\n")
    paths = [tmp_path / "arm.csv", tmp_path / "base.csv"]
    found = propose(survey(paths, ImportMapping()), ImportMapping())
    assert roles(found)["x"] == "observations all" and roles(found)["speed"] == "observations arm"
    assert found.mapping.agents["arm"].columns == {"observations": ("x", "speed")}
    assert found.mapping.agents["base"].columns == {"observations": ("x",)}
    assert (found.orders["arm"].incomplete, found.orders["base"].incomplete) == (1, 0)
    import_log(open_log(tmp_path, found.mapping), tmp_path / "logs")
    assert {agent: log.spec.observation_size for agent, log in load(tmp_path / "logs").items()} == {"arm": 2, "base": 1}


def tables(folder: Path, given: ImportMapping) -> Proposal:
    """Of two trucks that were driven on two days, the latter of which calls its speed otherwise, in the same place."""
    for agent, speed in (("cart", "cmd_speed [m/s]"), ("lorry", "cmd_speed")):
        rows = [
            f"2026-05-0{day} 0{day}:00:{second:02d},{day}/S,{second / 7},{second / 99},{second % 5},{second % 9}"
            for day in (1, 2)
            for second in range(20)
        ]
        (folder / f"{agent}.csv").write_text("\n".join([f"ts,shift_id,x,{speed},cmd_steer,output", *rows]))
    paths = [folder / "cart.csv", folder / "lorry.csv"]
    return propose(survey(paths, given), given)


def test_names_that_differ_between_tables_are_told_and_each_keeps_the_order_of_its_own(tmp_path: Path) -> None:
    found = tables(tmp_path, ImportMapping(columns={"rewards": ("output",)}))
    assert found.mapping.agents["cart"].columns == {"actions": ("cmd_speed [m/s]", "cmd_steer")}
    assert found.mapping.agents["lorry"].columns == {"actions": ("cmd_speed", "cmd_steer")}
    told = "agents call their actions differently (cart: cmd_speed [m/s], cmd_steer; lorry: cmd_speed, cmd_steer)"
    assert told in "\n".join(lines("tables", found))


def test_a_column_of_words_may_tell_the_episodes_within_which_no_step_is_missing(tmp_path: Path) -> None:
    said = {"rewards": ("output",)}
    hint = "if 'shift_id' tells episodes apart, as it seems, say --column episode=shift_id"
    assert hint in "\n".join(lines("tables", tables(tmp_path, ImportMapping(columns=said))))
    episode = ImportMapping(columns={**said, "episode": ("shift_id",)})
    assert hint not in "\n".join(lines("tables", tables(tmp_path, episode)))


def test_it_is_asked_whose_rewards_are_where_there_are_several_agents(tmp_path: Path) -> None:
    asked = "nobody said whose the rewards are"
    given = ImportMapping(columns={"rewards": ("output",)})
    assert asked in "\n".join(lines("tables", tables(tmp_path, given)))
    assert asked not in "\n".join(lines("tables", tables(tmp_path, dataclasses.replace(given, rewards="shared"))))
    alone = proposed(tmp_path, "t,x,u,reward", lambda n: f"{n},{n / 7},{n / 99},{n}")
    assert asked not in "\n".join(lines("table.csv", alone))


def test_what_is_wrong_with_the_columns_of_several_agents_is_told_once_with_their_names(tmp_path: Path) -> None:
    found = tables(tmp_path, ImportMapping())
    once = "no column is called like a reward of cart; likewise of lorry"
    assert once in "\n".join(lines("tables", found))
    assert to_text(found).count("no column is called like a reward") == 1 and once in to_text(found)
    own = {
        agent: dataclasses.replace(its, columns={"rewards": ("output",)}) for agent, its in found.mapping.agents.items()
    }
    wrong = ImportMapping(columns={"episode": ("nothing",)}, agents=own)
    told = "\n".join(lines("tables", tables(tmp_path, wrong)))
    assert "agent cart: " in told and "; likewise lorry\n" in told


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "水位", "%", "0"])
def test_names_without_a_latin_word_say_nothing(name: str, tmp_path: Path) -> None:
    rows = [f"{name},agent,episode,step,level,valve,reward"]
    rows += [f"{row},{'ab'[row % 2]},{row // 8},{row // 2},{row / 8},{row / 16},0.5" for row in range(32)]
    (tmp_path / "table.csv").write_text("\n".join(rows), "utf-8")
    proposal = propose(survey([tmp_path / "table.csv"], ImportMapping()), ImportMapping())
    # the numbers of rows that pandas writes beside them are no observation
    counts_rows = name in ("", "Unnamed: 0")
    assert proposal.mapping.columns["observations"] == (("level",) if counts_rows else (name, "level"))


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("a,0,0,1.0,0.1,0.5", r"table.csv: its first line holds values, such as 1\.0, where the names of the columns"),
        ("a,0,0,1,1,1", "table.csv: there are 2 columns '0'; rename or remove all but one, or write the names of the"),
    ],
)
def test_a_table_without_names(first: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("\n".join([first, "a,0,1,2.0,0.2,0.4", "b,0,1,2.0,0.2,0.4"]), "utf-8")
    with pytest.raises(DataError, match=message):
        survey([tmp_path / "table.csv"], ImportMapping())


def test_a_word_among_numbers_is_missing_once(tmp_path: Path) -> None:
    found = proposed(tmp_path, "tick,x,speed_cmd,score", lambda n: f"{n},{n / 7},{'abc' if n == 6 else n / 99},{n % 5}")
    text = lines("table.csv", found)
    (line,) = [one for one in text if one.startswith("speed_cmd")]
    assert line.split()[-1] == "1"
    assert any("something is missing in 1 row (" in one for one in text)
