"""Minari's folders: read without Minari, and written so that Minari reads them."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from marline.data.dataset import Dataset, from_arrays, load, save
from marline.data.decentralize import import_log
from marline.data.export import export_minari
from marline.data.formats import open_log
from marline.errors import ConfigError, DataError, MarlineError
from marline.types import Spec

Arrays = dict[str, np.ndarray]
SPECS = {"a": Spec(4, 2), "b": Spec(4, 1)}


def episodes_of(arrays: Arrays) -> list[Arrays]:
    """What each episode is to Minari: an observation more than steps."""
    stops = np.flatnonzero(arrays["terminals"] | arrays["timeouts"]) + 1
    episodes = []
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        rows = slice(start, stop)
        last = arrays["next_observations"][stop - 1 : stop]
        episodes.append(
            {
                "observations": np.concatenate([arrays["observations"][rows], last]),
                "actions": arrays["actions"][rows],
                "rewards": arrays["rewards"][rows],
                "terminations": arrays["terminals"][rows],
                "truncations": arrays["timeouts"][rows],
            }
        )
    return episodes


def following(arrays: Arrays) -> Arrays:
    """The same rows with the next observations that an episode of Minari has."""
    ends = arrays["terminals"] | arrays["timeouts"]
    after = np.where(ends[:, None], arrays["next_observations"], np.roll(arrays["observations"], -1, axis=0))
    return arrays | {"next_observations": after}


def write_folder(folder: Path, episodes: list[dict[str, Any]], **metadata: object) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "metadata.json").write_text(json.dumps({"data_format": "hdf5", **metadata}))
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        for number, episode in enumerate(episodes):
            group = file.create_group(f"episode_{number}")
            for key, value in episode.items():
                for name, array in value.items() if isinstance(value, dict) else [("", value)]:
                    group[f"{key}/{name}" if name else key] = array
    return folder


def assert_team(found: dict[str, Dataset], team: dict[str, Arrays]) -> None:
    assert list(found) == list(team)
    for agent, arrays in team.items():
        for key, column in following(arrays).items():
            np.testing.assert_array_equal(getattr(found[agent], key), column)


def test_a_joint_dataset_is_split(joint: Arrays, team: dict[str, Arrays], tmp_path: Path) -> None:
    source = write_folder(tmp_path / "x-v0", episodes_of(joint))
    import_log(open_log(source), tmp_path / "out", specs=SPECS)
    assert_team(load(tmp_path / "out"), team)


def test_a_dataset_of_dict_spaces_has_its_agents(joint: Arrays, team: dict[str, Arrays], tmp_path: Path) -> None:
    episodes = []
    for of_a, of_b in zip(episodes_of(team["a"]), episodes_of(team["b"]), strict=True):
        pairs = {key: {"a": of_a[key], "b": of_b[key]} for key in ("observations", "actions")}
        episodes.append(of_a | pairs)
    import_log(open_log(write_folder(tmp_path / "x-v0", episodes)), tmp_path / "out")
    assert_team(load(tmp_path / "out"), team)


def test_a_namespace_holds_a_dataset_per_agent(team: dict[str, Arrays], tmp_path: Path) -> None:
    for agent, arrays in team.items():
        write_folder(tmp_path / "space" / f"{agent}-v3", episodes_of(arrays))
    import_log(open_log(tmp_path / "space"), tmp_path / "out")
    assert_team(load(tmp_path / "out"), team)


def test_metadata_that_name_code_are_never_followed(joint: Arrays, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    call = {"id": "x", "entry_point": "pathlib:Path.touch", "kwargs": {"self": str(trap)}, "vector_entry_point": None}
    space = {"type": "os:system", "dtype": f"touch {trap}", "shape": [4]}
    source = write_folder(
        tmp_path / "x-v0", episodes_of(joint), env_spec=json.dumps(call), observation_space=json.dumps(space)
    )
    import_log(open_log(source), tmp_path / "out", specs=SPECS)
    assert not trap.exists() and len(load(tmp_path / "out")["a"]) == 50


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_what_minari_wrote_is_read(
    joint: Arrays, team: dict[str, Arrays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_format: str
) -> None:
    minari = pytest.importorskip("minari", reason="minari is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import gymnasium
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    box = {n: gymnasium.spaces.Box(-10, 10, (n,), np.float32) for n in (1, 2, 3, 4)}

    def write(name: str, observation: Any, action: Any, spaces: tuple[Any, Any]) -> None:
        buffers = [
            EpisodeBuffer(
                id=number,
                observations=observation(number),
                actions=action(number),
                rewards=episode["rewards"].tolist(),
                terminations=episode["terminations"].tolist(),
                truncations=episode["truncations"].tolist(),
                infos={},
            )
            for number, episode in enumerate(episodes_of(joint))
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it would like to know authors and the like
            minari.create_dataset_from_buffers(
                name, buffers, observation_space=spaces[0], action_space=spaces[1], data_format=data_format
            )

    flat = episodes_of(joint)
    write("team/joint-v0", lambda i: flat[i]["observations"], lambda i: flat[i]["actions"], (box[4], box[3]))
    import_log(open_log(tmp_path / "team" / "joint-v0"), tmp_path / "flat", specs=SPECS)
    assert_team(load(tmp_path / "flat"), team)

    each = {agent: episodes_of(arrays) for agent, arrays in team.items()}
    spaces = tuple(gymnasium.spaces.Dict({"a": box[n], "b": box[m]}) for n, m in ((4, 4), (2, 1)))
    write(
        "team/dict-v0",
        lambda i: {agent: each[agent][i]["observations"] for agent in each},
        lambda i: {agent: each[agent][i]["actions"] for agent in each},
        (spaces[0], spaces[1]),
    )
    import_log(open_log(tmp_path / "team" / "dict-v0"), tmp_path / "dict")
    assert_team(load(tmp_path / "dict"), team)


def logs_of(arrays: Arrays, spec: Spec, **masks: np.ndarray) -> Dataset:
    return from_arrays("x", following(arrays) | masks, spec=spec)


def test_minari_reads_what_is_exported(
    team: dict[str, Arrays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari", reason="minari is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    choices = team["b"] | {"actions": np.arange(50) % 3}
    logs = {"a": logs_of(team["a"], Spec(4, 2)), "b": logs_of(choices, Spec(4, 5, discrete=True))}
    export_minari(logs, tmp_path / "team")
    for agent in logs:
        opened = minari.load_dataset(f"team/{agent}-v0")
        expected = episodes_of(following(team["a"] if agent == "a" else choices))
        assert (opened.total_episodes, opened.total_steps) == (5, 50)
        for episode, wanted in zip(opened.iterate_episodes(), expected, strict=True):
            for key, array in wanted.items():
                np.testing.assert_array_equal(getattr(episode, key), array)
            assert opened.observation_space.contains(episode.observations[0])
            assert opened.action_space.contains(episode.actions[0])


def test_a_round_trip_keeps_rows_and_masks(team: dict[str, Arrays], tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((51, 5)) < 0.7
    masks[:, :3] = True
    ends = team["b"]["terminals"] | team["b"]["timeouts"]
    after = np.where(ends[:, None], True, masks[1:])
    logs = logs_of(
        team["b"] | {"actions": np.arange(50) % 3},
        Spec(4, 5, discrete=True),
        action_masks=masks[:-1],
        next_action_masks=after,
    )
    export_minari({"b": logs}, tmp_path / "space")
    import_log(open_log(tmp_path / "space"), tmp_path / "out")
    found = load(tmp_path / "out")["b"]
    assert found.spec == logs.spec
    for key, column in logs.columns().items():
        np.testing.assert_array_equal(found.columns()[key], column)


def test_an_episode_ends_where_rows_do_not_follow(team: dict[str, Arrays], tmp_path: Path) -> None:
    logs = logs_of(team["a"], Spec(4, 2))
    shuffled = dataclasses.replace(logs, **{key: column[::-1] for key, column in logs.columns().items()})
    export_minari({"a": shuffled}, tmp_path / "space")
    import_log(open_log(tmp_path / "space"), tmp_path / "out")
    found = load(tmp_path / "out")["a"]
    np.testing.assert_array_equal(found.next_observations, shuffled.next_observations)
    assert found.num_episodes == 50 and found.terminals.sum() == 4


def test_exports_are_refused(team: dict[str, Arrays], tmp_path: Path) -> None:
    logs = logs_of(team["a"], Spec(4, 2))
    with pytest.raises(DataError, match=r"agent 'a\.b' cannot name a Minari dataset"):
        export_minari({"a.b": logs}, tmp_path / "space")
    save(tmp_path / "space", {"a": logs})
    with pytest.raises(ConfigError, match="exists already"):
        export_minari({"a": logs}, tmp_path / "space")
    nothing = dataclasses.replace(logs, **{key: column[:0] for key, column in logs.columns().items()})
    with pytest.raises(DataError, match="hold no rows"):
        export_minari({"a": nothing}, tmp_path / "other")


def shorter(episode: dict[str, Any], key: str) -> dict[str, Any]:
    return episode | {key: episode[key][:-1]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda e: {key: array[:0] for key, array in e.items()}, "episode_0 has no steps; leave it out"),
        (lambda e: shorter(e, "observations"), "10 observations and 10 actions of 10 steps; an episode of N steps"),
        (lambda e: shorter(e, "actions"), "11 observations and 9 actions of 10 steps"),
        (
            lambda e: e | {"actions": {"a": e["actions"]}},
            "actions are a Dict of a and the observations an array; if these are parts of one agent's actions",
        ),
        (
            lambda e: e | {"actions": {"a": e["actions"]}, "observations": {"b": e["observations"]}},
            "a, b are among observations or actions only",
        ),
        (lambda e: {key: array for key, array in e.items() if key != "rewards"}, 'no "rewards" among'),
        (lambda e: e | {"infos": {"action_mask": np.ones((10, 3))}}, "action_mask has 10 rows for 10 steps"),
    ],
)
def test_episodes_that_do_not_fit(joint: Arrays, tmp_path: Path, change: Any, told: str) -> None:
    source = write_folder(tmp_path / "x-v0", [change(episode) for episode in episodes_of(joint)])
    with pytest.raises(MarlineError) as caught:
        import_log(open_log(source), tmp_path / "out", specs=SPECS)
    assert told in str(caught.value) and not (tmp_path / "out").exists()


def test_links_in_a_dataset_are_refused(joint: Arrays, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "x-v0", episodes_of(joint))
    with h5py.File(source / "data" / "main_data.hdf5", "a") as file:
        del file["episode_3"]
        file["episode_3"] = h5py.ExternalLink("/etc/passwd", "x")
    with pytest.raises(DataError, match='"episode_3" is a soft or external link'):
        import_log(open_log(source), tmp_path / "out", specs=SPECS)


def test_strange_folders_are_named(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "x-v0", [])
    with pytest.raises(DataError, match="holds no episodes"):
        import_log(open_log(source), tmp_path / "out", specs=SPECS)
    for text, told in (("[]", "not Minari's metadata"), ('{"data_format": "pickle"}', "stored as 'pickle'")):
        (source / "data" / "metadata.json").write_text(text)
        with pytest.raises(DataError, match=told):
            import_log(open_log(source), tmp_path / "out", specs=SPECS)


def test_fewer_episodes_than_promised_are_told(joint: Arrays, tmp_path: Path) -> None:
    whole = {"total_episodes": 5, "total_steps": 50}
    imported = import_log(
        open_log(write_folder(tmp_path / "whole-v0", episodes_of(joint), **whole)), tmp_path / "whole", specs=SPECS
    )
    assert not any("promise" in note for note in imported.notes)
    source = write_folder(tmp_path / "cut-v0", episodes_of(joint)[:3], **whole)
    imported = import_log(open_log(source), tmp_path / "cut", specs=SPECS)
    assert imported.num_rows == {"a": 30, "b": 30}
    assert any("holds 3 episodes, but its metadata promise 5; if you did not" in note for note in imported.notes)
    assert any("holds 30 steps, but its metadata promise 50" in note for note in imported.notes)


def test_an_episode_without_an_end_does_not_run_into_the_next(joint: Arrays, tmp_path: Path) -> None:
    episodes = episodes_of(joint)
    episodes[1]["terminations"] = np.zeros(10, bool)
    imported = import_log(open_log(write_folder(tmp_path / "x-v0", episodes)), tmp_path / "out", specs=SPECS)
    found = load(tmp_path / "out")["a"]
    assert np.flatnonzero(found.timeouts).tolist() == [19, 29]
    assert any("1 episodes end neither terminated nor truncated; they count as cut" in note for note in imported.notes)


@pytest.mark.parametrize(
    ("observations", "told"),
    [
        (
            {"observation": np.zeros((11, 3)), "goal": np.zeros((11, 2))},
            "if these are parts of one agent's observations",
        ),
        (np.arange(11), r"shape \[11\] instead of \[n, size\]; write a category as a one-hot row"),
        (np.zeros((11, 4, 4, 3), np.uint8), r"shape \[11, 4, 4, 3\] instead of \[n, size\]; flatten each"),
    ],
)
def test_observations_of_one_agent_that_are_no_vector(
    joint: Arrays, tmp_path: Path, observations: Any, told: str
) -> None:
    source = write_folder(tmp_path / "x-v0", [episodes_of(joint)[0] | {"observations": observations}])
    with pytest.raises(DataError, match=told):
        import_log(open_log(source), tmp_path / "out", specs=SPECS)
