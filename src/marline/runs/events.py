"""What each kind of event must hold for its readers: whoever seals a ledger of his own can enter anything."""

from __future__ import annotations

from typing import Any, NamedTuple

from marline.runs.records import STOP

MIN_EPISODES = 10  # of each deployment; fewer show a direction, no regression


class Change(NamedTuple):
    """Mean return of a deployment against the one before it.

    Attributes:
        now, before: mean return per episode.
        difference: of both.
        low, high: Welch's t interval of the difference at 95 %; NaN with fewer than two episodes on a side.
        num_now, num_before: episodes of each; enough, where a record of an older marline does not say.
    """

    now: float
    before: float
    difference: float
    low: float
    high: float
    num_now: int = MIN_EPISODES
    num_before: int = MIN_EPISODES

    @property
    def is_lower(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0

    @property
    def is_regression(self) -> bool:
        """Whether the whole interval lies below 0, and enough episodes say so."""
        return self.is_lower and min(self.num_now, self.num_before) >= MIN_EPISODES


# A type; [X] is a list of X, {str: X} a mapping to X, and {"key": X} has that key, or may have it if it ends in "?".
Form = Any
_NUMBER = (int, float)
_LOGS = {str: {"rows": int}}
_SHIFT = {
    "alpha?": _NUMBER,
    "estimated_distance?": _NUMBER,
    "distance_histogram?": [int],
    "effective_sample_size?": _NUMBER,
    "share_offline?": _NUMBER,
    "share_earlier?": _NUMBER,
    "share_current?": _NUMBER,
}
_FORESIGHT = dict.fromkeys(("value_difference", "low", "high", "deviation", "unfamiliar"), _NUMBER)
_FORMS: dict[str, Form] = {
    "created": {"run.json": str, "data": str, "rows": {str: int}},
    "trained": {"updates": int, "checkpoint": str, "identity?": str, "diverged?": {str: STOP}},
    "exported": {"policies": {str: str}},
    "waiting": {"waiting": str, "agents": _LOGS},
    "ingested": {"logs": str, "agents": _LOGS, "waived": [str]},
    "gated": {**dict.fromkeys(Change._fields, _NUMBER), "regression": bool, "came_from?": {str: int}},
    "foreseen": {"agents": {str: _FORESIGHT}},
    "tuned": {
        "agents": {str: _SHIFT},
        "frozen": [str],
        "waived": [str],
        "diverged?": {str: STOP},
        "policies?": str,
        "learners?": str,
        "identity?": str,
    },
    "rolled-back": {"to": int, "agents": [str]},
}


def is_well_formed(time: object, kind: object, deployment: object, body: object) -> bool:
    """Whether the columns of an event are what marline enters; kinds of a later marline may hold anything."""
    if not (isinstance(time, str) and isinstance(kind, str) and type(deployment) is int and deployment >= 0):
        return False
    return isinstance(body, dict) and _has(body, _FORMS.get(kind, dict))


def _has(value: object, form: Form) -> bool:
    if isinstance(form, list):
        return isinstance(value, list) and all(_has(item, form[0]) for item in value)
    if not isinstance(form, dict):
        return isinstance(value, form) and (not isinstance(value, bool) or form is bool)
    if not isinstance(value, dict):
        return False
    if str in form:
        return all(_has(item, form[str]) for item in value.values())
    return all(
        _has(value[key], its) if (key := name.removesuffix("?")) in value else name.endswith("?")
        for name, its in form.items()
    )
