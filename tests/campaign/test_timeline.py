"""The ledger in sentences."""

from __future__ import annotations

from marline.campaign.regression import compare_returns
from marline.campaign.timeline import timeline
from marline.runs.events import Event


def test_every_kind_of_event_has_its_sentence() -> None:
    logs = {"arm": {"rows": 1000}, "cart": {"rows": 1000}}
    worse = compare_returns([1.0, 2.0] * 5, [8.0, 9.0] * 5)
    measured = {"alpha": 1.25, "estimated_distance": 0.5, "share_earlier": 0.1, "share_current": 0.2}
    foretold = {"value_difference": 1.0, "low": 0.5, "high": 1.5, "deviation": 0.25, "unfamiliar": 0.1}
    happened = [
        (
            "created",
            0,
            {"run.json": "", "data": "", "rows": {"arm": 5000, "cart": 5000}},
            "offline logs: arm 5,000 rows, cart 5,000 rows",
        ),
        ("trained", 0, {"updates": 100_000, "checkpoint": ""}, "100,000 updates of every agent on its offline logs"),
        (
            "exported",
            1,
            {"policies": {"arm": "a" * 64, "cart": "b" * 64}},
            "policies went out: arm aaaaaaaaaaaa, cart bbbbbbbbbbbb (the first)",
        ),
        ("waiting", 1, {"waiting": "", "agents": {"arm": {"rows": 1000}}}, "arm 1,000 rows"),
        (
            "ingested",
            1,
            {"logs": "", "agents": logs, "waived": ["lift"]},
            "arm 1,000 rows, cart 1,000 rows; waived: lift",
        ),
        (
            "tuned",
            1,
            {"agents": {"arm": measured, "cart": {"alpha": 1.0}}, "frozen": ["cart"], "waived": ["lift"]},
            "arm: alpha 1.25, distance 0.5, online 30 %; cart: alpha 1.00, frozen; waived: lift",
        ),
        (
            "foreseen",
            2,
            {"agents": {"arm": {**foretold, "no_value": ""}, "cart": foretold}},
            "arm: value +1 [+0.5, +1.5], actions 0.25 apart, 10 % unfamiliar; cart: value +1 [+0.5, +1.5] (by an "
            "earlier marline, which did not ask whether it is one), actions 0.25 apart, 10 % unfamiliar",
        ),
        (
            "foreseen",
            2,
            {"agents": {"arm": {**foretold, "no_value": "it runs away"}}},
            "arm: actions 0.25 apart, 10 % unfamiliar, no estimate of the value, because it runs away",
        ),
        (
            "exported",
            2,
            {"policies": {"arm": "c" * 64, "cart": "b" * 64}},
            "policies went out: arm cccccccccccc, cart bbbbbbbbbbbb (changed: arm)",
        ),
        ("gated", 2, {**worse._asdict(), "regression": True}, "return per episode 1.5, before 8.5: -7 ["),
        ("rolled-back", 2, {"to": 0, "agents": ["arm"]}, "arm back to what came out of deployment 0"),
        ("of-a-later-marline", 2, {"x": [1]}, ""),
    ]
    events = [Event(number, "2026-01-01", kind, k, body, "") for number, (kind, k, body, _) in enumerate(happened)]
    moments = timeline(events)
    for moment, (kind, number, _, text) in zip(moments, happened, strict=True):
        assert (moment.kind, moment.deployment) == (kind, number)
        assert moment.text.startswith(text) if kind == "gated" else moment.text == text
        assert moment.is_warning == (kind == "gated")
    assert moments[-3].text.endswith("], a regression")
