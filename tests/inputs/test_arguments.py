"""What users pass in Python: what loses nothing is taken, and anything else told in a sentence."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest

import marline
from marline.algorithms import ALGORITHMS, BCQ, MABCQ, TD3BC
from marline.configuration.run_config import RunConfig
from marline.data.dataset import Dataset, from_arrays
from marline.envs import TASKS, CooperativeNavigation
from marline.errors import ConfigError
from marline.inputs.arguments import checked, checked_arguments, fit
from marline.samplers import OTC, SAMPLERS, Sampler, Uniform, ValueDistance
from marline.types import Spec


class Place(NamedTuple):
    host: str
    port: int


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (np.int64(3), int, 3),
        (np.bool_(True), bool, True),
        (3, float, 3.0),
        (np.float32(0.5), float, 0.5),
        ([1, np.int32(2)], tuple[int, ...], (1, 2)),
        (range(2), tuple[int, ...], (0, 1)),
        (np.arange(2), tuple[int, ...], (0, 1)),
        ([0, 1], tuple[float, float], (0.0, 1.0)),
        ("a", str | Path, "a"),
        (None, int | None, None),
        ("b", Literal["a", "b"], "b"),
        ({"x": np.int64(1)}, Mapping[str, int], {"x": 1}),
        (Place("a", np.int64(1)), Place, Place("a", 1)),  # pyright: ignore[reportArgumentType]
        (object, Any, object),
        ([Place], Sequence[type], [Place]),
    ],
)
def test_what_loses_nothing_is_converted(value: Any, hint: Any, expected: Any) -> None:
    found = fit(value, hint, "it")
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "told"),
    [
        (3.0, int, "it is 3.0, but must be a whole number"),
        (True, int, "it is True, but must be a whole number"),
        (True, float, "it is True, but must be a finite number"),
        ("1", float, "it is '1', but must be a finite number"),
        (math.nan, float, "it is nan, but must be a finite number"),
        (math.inf, float | None, "it is inf, but must be a finite number"),
        (1, bool, "it is 1, but must be true or false"),
        (1, str, "it is 1, but must be a string"),
        (b"a", str | Path, "it is b'a', but must be a string, or a path"),
        (16, tuple[int, ...], "it is 16, but must be a sequence, each entry a whole number; write (16,)"),
        ("16", tuple[int, ...], "it is '16', but must be a sequence, each entry a whole number"),
        ((16.0,), tuple[int, ...], "an entry of it is 16.0, but must be a whole number"),
        (1.0, tuple[float, float], "it is 1.0, but must be a tuple of 2"),
        ("arm", Collection[str], "it is 'arm', but must be a sequence, each entry a string; write ('arm',)"),
        ("c", Literal["aa", "b"], "unknown it 'c'; known: aa, b"),
        ([1], Mapping[str, int], "it is a list, but must be a mapping by name, each entry a whole number"),
        ({1: 1}, Mapping[str, int], "a name in it is 1, but must be a string"),
        ({"x": "y"}, Mapping[str, int], "it['x'] is 'y', but must be a whole number"),
        (Place("a", 1.5), Place, None),  # pyright: ignore[reportArgumentType]
        (3, Callable[[], int], "it is 3, but must be a function"),
        (CooperativeNavigation, marline.Task, "it is the class CooperativeNavigation, but must be a Task"),
        (ValueDistance, Callable[[], int] | marline.Task, None),
        ("x" * 1000, int, "it is '" + "x" * 59 + "..., but must be a whole number"),
    ],
)
def test_anything_else_is_told_in_a_sentence(value: Any, hint: Any, told: str | None) -> None:
    if value is ValueDistance:  # a class that is no task may be called like a function
        assert fit(value, hint, "it") is value
        return
    with pytest.raises(ConfigError) as caught:
        fit(value, hint, "it")
    assert str(caught.value).startswith(told or "port of it is 1.5, but must be a whole number")


def test_a_dataclass_fits_its_fields_before_it_looks_at_them() -> None:
    @dataclasses.dataclass(frozen=True)
    @checked
    class Own:
        sizes: tuple[int, ...] = (1,)

        def __post_init__(self) -> None:
            assert all(size > 0 for size in self.sizes)

    assert Own([np.int64(2)]) == Own((2,))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=re.escape("sizes is 2, but must be a sequence")):
        Own(2)  # pyright: ignore[reportArgumentType]


def test_a_function_fits_its_arguments_however_they_are_passed() -> None:
    @checked_arguments
    def double(number: int, *others: int, by: float = 2.0, **named: str) -> float:
        return number * by

    assert double(np.int64(2)) == 4.0 and double(number=3, by=1) == 3.0  # pyright: ignore[reportArgumentType]
    wrong: list[tuple[list[Any], dict[str, Any]]] = [([2.0], {}), ([2], {"by": "x"}), ([], {"number": None})]
    for arguments, named in wrong:
        with pytest.raises(ConfigError, match="must be"):
            double(*arguments, **named)


CONFIG = RunConfig(task=None, algorithm=TD3BC(), samplers={"uniform": Uniform()})
EXAMPLES = [*(kind() for kind in ALGORITHMS.values()), *SAMPLERS.values(), *TASKS.values(), CONFIG, Spec(1, 1)]
OPTIONS = {type(value): value for value in EXAMPLES}.values()


def with_field(value: Any, name: str, field: Any) -> Any:
    """`dataclasses.replace`, past the type checker that tests run under."""
    changed = copy.copy(value)
    object.__setattr__(changed, name, field)
    changed.__post_init__()
    return changed


@pytest.mark.parametrize("value", OPTIONS, ids=lambda value: type(value).__name__)
def test_every_public_dataclass_checks_every_field(value: Any) -> None:
    """A set is none of the types that fields have."""
    for field in dataclasses.fields(value):
        with pytest.raises(ConfigError, match=f"(?s){field.name}.*a set"):
            with_field(value, field.name, {1})


def test_a_configuration_takes_the_numbers_of_numpy() -> None:
    config = with_field(with_field(CONFIG, "seeds", np.arange(2)), "updates", np.int64(5))
    assert config == dataclasses.replace(CONFIG, seeds=(0, 1), updates=5) and type(config.seeds[1]) is int


def logs() -> Dataset:
    rows = {"observations": np.zeros((4, 2)), "actions": np.zeros((4, 1)), "rewards": np.zeros(4)}
    return from_arrays("arm", {**rows, "terminals": np.arange(4) == 3})


# what a wrong argument is, in place of a right one
WRONG = [
    ({"seed": 1.5}, "seed is 1.5, but must be a whole number"),
    ({"offline_updates": 50.0}, "offline_updates is 50.0, but must be a whole number"),
    ({"rows_per_deployment": 0}, "rows_per_deployment is 0, but must be at least 1"),
    ({"sampler": "otc-valeu"}, "unknown sampler 'otc-valeu'; did you mean 'otc-value'?"),
    ({"sampler": OTC}, "sampler is the class OTC, but must be a string, or a Sampler"),
    ({"algorithm": {"arm": BCQ}}, "algorithm['arm'] is the class BCQ, but must be an Algorithm; write BCQ(...)"),
    ({"algorithm": {"leg": BCQ()}}, "algorithm has no entry for agent 'arm'"),
    ({"logs": {"arm": {}}}, "logs['arm'] is a dict, but must be a Dataset, made by marline.from_arrays"),
    ({"logs": {1: logs()}}, "a name in logs is 1, but must be a string"),
]


@pytest.mark.parametrize(("changed", "told"), WRONG, ids=lambda value: str(value)[:40])
def test_a_campaign_of_wrong_types_is_refused_and_leaves_nothing(changed: Any, told: str, tmp_path: Path) -> None:
    given = {"folder": tmp_path / "runs" / "run", "logs": {"arm": logs()}, "algorithm": TD3BC(hidden=(4,))} | changed
    with pytest.raises(ConfigError) as caught:
        marline.Campaign.create(**given)
    assert str(caught.value).startswith(told)
    assert list(tmp_path.iterdir()) == []


def test_what_is_nested_is_checked_too() -> None:
    assert isinstance(MABCQ().base, BCQ) and isinstance(Uniform(), Sampler)
    with pytest.raises(ConfigError, match=r"base is the class BCQ, but must be a BCQ; write BCQ\(\.\.\.\)"):
        with_field(MABCQ(), "base", BCQ)
    with pytest.raises(ConfigError, match="agent is 1, but must be a string"):
        from_arrays(1, {})  # pyright: ignore[reportArgumentType]
