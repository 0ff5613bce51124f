"""What the columns of an agent's logs are called and measured in, and which range of the field its actions span."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from marline.errors import ConfigError, DataError, require, require_name
from marline.types import Spec

LONGEST = 100  # letters of a name or unit
LARGEST = float(np.finfo(np.float32).max)
Bound = float | int | np.number | np.ndarray | Sequence[float | int]  # of all numbers of an action, or one for each
FEWEST_VALUES = 1024  # that float32, in which policies answer, must tell apart within a range


@dataclasses.dataclass(frozen=True)
class Channels:
    """Names, units and ranges of an agent's columns, as far as they are known.

    Within marline, continuous actions lie in [-1, 1]. In the field, action i lies in [action_low[i], action_high[i]]:
    its scale, on which logs come in and policies answer. Without a range the two scales are the same.

    Attributes:
        observation_names: one for each column.
        observation_units: the same; None where there is none.
        action_names: one for each number of the action, or for each choice where actions are discrete.
        action_units: one for each number of the action; None where there is none.
        action_low, action_high: what -1 and 1 are in the field.

    Raises:
        ConfigError: something else is in a field; the message names it.

    Example:
        >>> flow = marline.Channels(action_names=["flow"], action_units=["l/min"], action_low=[5], action_high=[60])
        >>> flow.to_field(np.array([[-1.0], [0.0], [1.0]])).tolist()
        [[5.0], [32.5], [60.0]]
    """

    observation_names: Sequence[str] | None = None
    observation_units: Sequence[str | None] | None = None
    action_names: Sequence[str] | None = None
    action_units: Sequence[str | None] | None = None
    action_low: Sequence[float | int] | None = None
    action_high: Sequence[float | int] | None = None

    def __post_init__(self) -> None:
        for key, values in _checked({key: getattr(self, key) for key in KEYS}).items():
            object.__setattr__(self, key, values)

    @property
    def has_scale(self) -> bool:
        """Whether actions of the field lie on another scale than [-1, 1]."""
        return self.action_low is not None and bool(set(zip(*self._range(), strict=True)) - {(-1.0, 1.0)})

    def bounds(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """[size] the least and the largest value of each number of an action in the field, float64."""
        low, high = self._range()
        return (np.array(low), np.array(high)) if self.action_low is not None else (-np.ones(size), np.ones(size))

    def to_field(self, actions: np.ndarray) -> np.ndarray:
        """Actions [..., act] in [-1, 1] on the field's scale, in float64; as they are where there is no other scale.

        What lies in [-1, 1] comes out within the range; its ends are those of the range, and 0 is its middle.
        """
        if not self.has_scale:
            return actions
        low, high = self.bounds(actions.shape[-1])
        actions = np.asarray(actions, np.float64)
        scaled = (low + high) / 2 + (high - low) / 2 * actions
        scaled = np.where(np.abs(actions) < 1, np.clip(scaled, low, high), scaled)
        return np.where(actions == -1, low, np.where(actions == 1, high, scaled))

    def answers(self, actions: np.ndarray) -> np.ndarray:
        """`to_field` in float32, in which policies answer; never outside the range, as rounding alone might be."""
        if not self.has_scale:
            return actions
        return np.clip(self.to_field(actions).astype(np.float32), *self.float32_bounds(actions.shape[-1]))

    def from_field(self, actions: np.ndarray) -> np.ndarray:
        """The inverse of `to_field`, computed in float64; float32 unless float64 comes in.

        What is beyond the range by no more than the rounding of float32 is taken for its end. The inverse is exact to
        float32 but for numbers below about 1e-8, which are off by 1e-15 at most.

        Raises:
            ConfigError: an action has another size than the range.
        """
        if not self.has_scale:
            return actions
        size = actions.shape[-1] if actions.ndim > 1 else 1
        low, high = self.bounds(size)
        require(len(low) == size, f"actions have {size} columns, but there are ranges of {len(low)}; give one for each")
        half = (high - low) / 2
        unit = (np.asarray(actions, np.float64).reshape(-1, size) - (low + high) / 2) / np.where(half > 0, half, 1.0)
        rounding = _spacing(low, high) / np.where(half > 0, half, 1.0)
        unit = np.where((np.abs(unit) > 1) & (np.abs(unit) <= 1 + rounding), np.sign(unit), unit)
        with np.errstate(over="ignore"):  # what is infinite then is told with its row
            dtype = np.float64 if actions.dtype == np.float64 else np.float32
            return unit.reshape(actions.shape).astype(dtype, copy=False)

    def float32_bounds(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """[size] the bounds in float32, rounded inwards so that nothing between them is outside the true ones."""
        low, high = self.bounds(size)
        least, most = low.astype(np.float32), high.astype(np.float32)
        least = np.where(least.astype(np.float64) < low, np.nextafter(least, np.float32(np.inf)), least)
        most = np.where(most.astype(np.float64) > high, np.nextafter(most, np.float32(-np.inf)), most)
        return least.astype(np.float32), np.maximum(least, most).astype(np.float32)

    def rounding(self, size: int) -> np.ndarray:
        """[size] how far float32 may be off, on the field's scale."""
        return _spacing(*self.bounds(size))

    def require_resolution(self, where: str) -> None:
        """Raise `ConfigError` for a range so narrow beside its offset that float32 cannot tell its values apart."""
        low, high = self.bounds(1)
        apart = (high - low) / _spacing(low, high)
        for place in np.flatnonzero((low < high) & (apart < FEWEST_VALUES)).tolist():
            raise ConfigError(
                f"{where}: of the range [{low[place]:.10g}, {high[place]:.10g}] of {self.action(place)} float32 tells "
                f"only {apart[place]:.0f} values apart; log it without its offset, and add that where the policy acts"
            )

    def same_scale(self, other: Channels) -> bool:
        """Whether an action means the same on both."""
        if not (self.has_scale or other.has_scale):
            return True
        return self._range() == other._range()

    def difference(self, other: Channels) -> str | None:
        """How `other` contradicts this, in words: another scale, or other names or units where both have some."""
        if not self.same_scale(other):
            return f"have actions in {other.scale()}, not in {self.scale()}"
        for key in ("observation_names", "observation_units", "action_names", "action_units"):
            mine, theirs = getattr(self, key), getattr(other, key)
            if mine is not None and theirs is not None and mine != theirs:
                pairs = enumerate(zip(mine, theirs, strict=False))
                place = next((place for place, (a, b) in pairs if a != b), min(len(mine), len(theirs)))
                its = [_shown(names[place]) if place < len(names) else "missing" for names in (theirs, mine)]
                return f"have {its[0]} as entry {place} of {key}, not {its[1]}"
        return None

    def require_agreement(self, where: str, logs: Channels) -> None:
        """Raise `DataError` if logs of an agent, named by `where`, contradict these, which its offline logs have."""
        difference = self.difference(logs)
        if difference is not None:
            raise DataError(f"{where} {difference}, as its offline logs have; log the same columns on the same scale")

    def or_else(self, other: Channels) -> Channels:
        """This, and what `other` knows of what is not known here; a range is one thing."""
        known = {key: getattr(self, key) for key in KEYS if getattr(self, key) is not None}
        return Channels(**{**{key: getattr(other, key) for key in KEYS}, **known})

    def of_columns(self, observations: Sequence[int] | None, actions: Sequence[int] | None) -> Channels:
        """Those of some columns of a joint log; None for all of them."""
        taken = {"observation": observations, "action": actions}

        def chosen(key: str) -> Any:
            values, columns = getattr(self, key), taken[key.partition("_")[0]]
            if values is None or columns is None or max(columns) >= len(values):
                return values if columns is None else None
            return tuple(values[column] for column in columns)

        return Channels(**{key: chosen(key) for key in KEYS})

    def require_fit(self, where: str, spec: Spec) -> None:
        """Raise `DataError` unless there is an entry for each column of an agent with this spec, in a usable range."""
        try:
            self.require_resolution(where)
        except ConfigError as error:
            raise DataError(str(error)) from None
        for key in KEYS:
            values = getattr(self, key)
            size = spec.observation_size if key.startswith("observation") else spec.action_size
            if values is None:
                continue
            if spec.discrete and key in ("action_low", "action_high", "action_units"):
                raise DataError(f"{where}: {key} are given, but actions are choices; leave them out")
            if len(values) != size:
                raise DataError(f"{where}: there are {len(values)} {key} for {size} columns; give one for each")

    def observation(self, place: int) -> str:
        """What people call a number of the observation."""
        return _label("observation", place, self.observation_names, self.observation_units)

    def action(self, place: int) -> str:
        """What people call a number of the action, or a choice."""
        return _label("action", place, self.action_names, self.action_units)

    def scale(self) -> str:
        """The ranges of all actions, in words."""
        if self.action_low is None:
            return "[-1, 1]"
        shown = dict.fromkeys(f"[{low:.10g}, {high:.10g}]" for low, high in zip(*self._range(), strict=True))
        return " x ".join(list(shown)[:8])

    def to_json(self) -> dict[str, list[Any]]:
        """What is known, by name."""
        return {key: list(getattr(self, key)) for key in KEYS if getattr(self, key) is not None}

    @staticmethod
    def from_json(document: Any, where: str) -> Channels:
        """The inverse of `to_json`, of a document that anybody may have written.

        Raises:
            DataError: it is something else; the message begins with `where`.
        """
        if not isinstance(document, Mapping):
            raise DataError(f"{where}: channels are {_shown(document)}; write an object of {', '.join(KEYS)}")
        try:
            for key in document:
                require_name(str(key)[:LONGEST], KEYS, "key of channels")
            return Channels(**_checked(document))
        except ConfigError as error:
            raise DataError(f"{where}: {error}") from None

    @staticmethod
    def from_text(text: str | bytes, where: str) -> Channels:
        """`from_json`, of the text of a document."""
        return Channels.from_json(read_document(text, where), where)

    def _range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return tuple(self.action_low or ()), tuple(self.action_high or ())


KEYS = tuple(field.name for field in dataclasses.fields(Channels))


def read_document(text: str | bytes, where: str) -> Any:
    """The JSON in a text that anybody may have written; `DataError` if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: channels are no JSON ({str(error)[:100]}); export the logs again") from None


def ranged(low: Bound, high: Bound, size: int) -> Channels:
    """Channels of an action of `size` numbers, from a bound for all of them or one for each.

    Raises:
        ConfigError: not as many bounds as numbers, or no bounds at all.
    """
    bounds = []
    for name, given in (("low", low), ("high", high)):
        values = given.tolist() if isinstance(given, np.ndarray) else given
        values = list(values) if isinstance(values, list | tuple) else [values] * size
        require(len(values) == size, f"{name} has {len(values)} entries for {size} actions; give one, or one for each")
        bounds.append(values)
    return Channels(**_checked({"action_low": bounds[0], "action_high": bounds[1]}))


def _checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Channels` that are known, as tuples; `ConfigError` for what cannot be one."""
    known = {key: _entries(key, values) for key, values in fields.items() if values is not None}
    low, high = known.get("action_low"), known.get("action_high")
    require((low is None) == (high is None), "only one of action_low and action_high is given; give both")
    if low is not None and high is not None:
        require(len(low) == len(high), f"there are {len(low)} action_low and {len(high)} action_high; give as many")
        for place, (least, most) in enumerate(zip(low, high, strict=True)):
            require(least <= most, f"action {place} goes from {least:g} to {most:g}; give the lower bound first")
    return known


def _entries(key: str, values: Any) -> tuple[Any, ...]:
    values = values.tolist() if isinstance(values, np.ndarray) else values
    require(isinstance(values, list | tuple), f"{key} are {_shown(values)}, but must be a list, one per column")
    kind = key.partition("_")[2]
    for place, value in enumerate(values):
        if kind in ("low", "high"):
            _require_bound(f"entry {place} of {key}", value)
        elif kind == "names" or value is not None:
            _require_text(f"entry {place} of {key}", value)
    if kind == "names":
        twice = [name for name, count in collections.Counter(values).items() if count > 1]
        require(not twice, f"{key} name {_shown(twice[:1])} twice; name each column once")
    return tuple(map(float, values) if kind in ("low", "high") else values)


def _spacing(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Between neighbouring numbers of float32 as large as the bounds."""
    return np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(np.float32)).astype(np.float64)


def _require_text(what: str, value: Any) -> None:
    fits = isinstance(value, str) and 1 <= len(value) <= LONGEST and value.isprintable()
    require(fits, f"{what} is {_shown(value)}, but must be 1 to {LONGEST} printable letters")


def _require_bound(what: str, value: Any) -> None:
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    require(bool(is_number and abs(value) <= LARGEST), f"{what} is {_shown(value)}, but must be a finite number")


def _label(kind: str, place: int, names: Sequence[str] | None, units: Sequence[str | None] | None) -> str:
    name = f"{kind} {place}" if names is None or place >= len(names) else names[place]
    unit = None if units is None or place >= len(units) else units[place]
    return name if unit is None else f"{name} ({unit})"


def _shown(value: Any) -> str:
    """A value in at most 40 letters; of what is large, only what it is."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return "a whole number beyond float32"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
