"""What is said of a deployment against the one before it, and of the worlds of the agents."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from marline.campaign.regression import compare_returns, describe, rollback_commands
from marline.campaign.shift import describe_changes, most_moved, shifts
from marline.runs.events import (
    Change,
    Content,
    Event,
    Exported,
    Gated,
    RolledBack,
    Trained,
    Tuned,
    read_content,
    written,
)
from marline.runs.lineage import exported_policies, lineage
from marline.runs.records import Record, ShiftRecord


def test_a_clear_loss_is_a_regression_and_scatter_is_not() -> None:
    worse = compare_returns([1.0, 2.0, 3.0] * 4, [11.0, 12.0, 13.0] * 4)
    assert (worse.now, worse.before, worse.difference) == (2.0, 12.0, -10.0)
    assert worse.is_regression and -11 < worse.low < worse.difference < worse.high < -9
    assert worse == compare_returns([1.0, 2.0, 3.0] * 4, [11.0, 12.0, 13.0] * 4)
    assert not compare_returns([0.0, 10.0] * 6, [1.0, 11.0] * 6).is_regression
    assert not compare_returns([11.0, 12.0, 13.0], [1.0, 2.0, 3.0]).is_regression
    alone = compare_returns([1.0], [12.0, 13.0])
    assert math.isnan(alone.low) and not alone.is_regression


def test_a_regression_comes_with_the_commands_that_take_it_back() -> None:
    came_from = {"arm": 1, "cart": 0, "lift": 1}
    said = describe(gate(compare_returns([1.0, 2.0] * 5, [8.0, 9.0] * 5), came_from), Path("runs/site"))
    assert said[0].startswith("return per episode 1.5, of the team before 8.5: -7 [")
    assert "REGRESSION" in said[1] and "one in forty" in said[1]
    assert [line.split(": ", 1)[1] for line in said[2:]] == [
        "marline rollback runs/site --to 0 --agent cart",
        "marline rollback runs/site --to 1 --agent arm lift",
    ]
    assert rollback_commands({"arm": 2, "cart": 2}, Path("r")) == ["marline rollback r --to 2"]
    assert len(describe(gate(compare_returns([9.0, 8.0], [8.0, 9.0]), came_from), Path("r"))) == 1


def gate(change: Change, came_from: dict[str, int]) -> Gated:
    return Gated(**change._asdict(), regression=change.is_regression, came_from=came_from)


def event(deployment: int, content: Content) -> Event:
    return Event(1, "", content.kind, deployment, written(content), "")


def exported(deployment: int, **policies: str) -> Event:
    return event(deployment, Exported(policies=policies))


def test_few_episodes_show_a_direction_and_one_no_interval() -> None:
    few = compare_returns([1.0, 2.0, 1.0], [8.0, 9.0, 8.5])
    assert few.is_lower and not few.is_regression
    said = describe(gate(few, {"arm": 1}), Path("runs/site"))
    assert said[1].startswith("the return fell; with fewer than 10 episodes in a deployment this is a direction")
    assert said[2].endswith("marline rollback runs/site --to 1")
    alone = describe(gate(compare_returns([1.0], [8.0, 9.0]), {}), Path("r"))
    assert alone == ["return per episode 1, of the team before 8.5: -7.5 (too few for an interval)"]
    wins = compare_returns([0.0, 0.0], [1.0, 1.0])  # of teams that win every other episode, one in sixteen
    assert wins.is_lower and not wins.is_regression


def test_the_record_of_an_older_marline_is_read_as_it_was_meant() -> None:
    body = {"now": 1.5, "before": 8.5, "difference": -7.0, "low": -8.0, "high": -6.0, "regression": True}
    older = read_content("gated", body)
    assert isinstance(older, Gated) and older.change.is_regression
    assert written(older) == body, "and enters nothing that was not known"


def test_policies_come_from_where_they_were_tuned_last() -> None:
    records: list[Record] = [
        {"deployment": 0, "agents": {}},
        {"deployment": 1, "agents": {"arm": {}, "cart": {}}, "frozen": ["cart"]},
        {"deployment": 2, "agents": {"arm": {}}, "waived": ["cart"]},
        {"deployment": 3, "agents": {"arm": {}, "cart": {}}},
    ]
    back = [event(2, RolledBack(to=0, agents=("arm",))), event(3, RolledBack(to=2, agents=("cart",)))]
    assert lineage(["arm", "cart"], [], []) == [{"arm": 0, "cart": 0}]
    assert lineage(["arm", "cart"], records[:3], back)[-1] == {"arm": 0, "cart": 0}
    assert lineage(["arm", "cart"], records, back) == [
        {"arm": 0, "cart": 0},
        {"arm": 1, "cart": 0},
        {"arm": 2, "cart": 0},
        {"arm": 3, "cart": 3},
        {"arm": 3, "cart": 0},
    ]


def test_a_rollback_withdraws_what_went_out_before_it() -> None:
    events = [
        exported(1, arm="a", cart="b"),
        exported(2, arm="c", cart="d"),
        event(1, RolledBack(to=0, agents=("cart",))),
    ]
    assert exported_policies(events, 1) == {"arm": {"a"}, "cart": {"b"}}
    assert exported_policies(events, 2) == {"arm": {"c"}}
    events.append(exported(2, arm="c", cart="b"))
    assert exported_policies(events, 2) == {"arm": {"c"}, "cart": {"b"}}


def test_it_is_told_whose_world_changed_and_whether_it_matters() -> None:
    def measured(nats: float, p: float, *, changed: bool) -> ShiftRecord:
        return ShiftRecord(change_nats=nats, change_se=0.02, change_p_value=p, gate_open=float(changed))

    first = {agent: measured(0.0, 0.5, changed=False) for agent in ("arm", "cart", "lift", "grip")}
    second = {
        "arm": measured(0.004, 0.0001, changed=True),
        "cart": measured(0.21, 0.004, changed=True),
        "lift": measured(0.03, 0.2, changed=False),
        "hook": measured(0.1, 0.004, changed=True) | {"power": 0.0},
    }
    tuned = [event(i, Tuned(agents=its, frozen=(), waived=())) for i, its in enumerate((first, second), start=1)]
    found = shifts(tuned)
    assert [shift.agent for shift in found if shift.matters] == ["cart", "hook"]
    assert [shift.agent for shift in found if shift.corrects] == ["arm", "cart"]
    assert describe_changes(found) == [
        "cart, deployment 2: changed: partners or the world no longer answer cart as in its logs "
        "(0.210 +- 0.020 nats a row, p 0.004); rows that fit today are preferred",
        "hook, deployment 2: changed: partners or the world no longer answer hook as in its logs "
        "(0.100 +- 0.020 nats a row, p 0.004); "
        "weights would not help to foretell its TD errors: no row is preferred for fitting today",
        "lift, deployment 2: no change shown (0.030 +- 0.020 nats a row, p 0.2); no row is preferred for fitting today",
        "arm, deployment 2: changed, but hardly (below 0.01 nats) (0.004 +- 0.020 nats a row, p below 0.001); "
        "rows that fit today are preferred",
        "grip, deployment 1: no change shown (0.000 +- 0.020 nats a row, p 0.5); no row is preferred for fitting today",
    ]
    distances: dict[str, ShiftRecord] = {"arm": {"estimated_distance": 1.0}}
    assert describe_changes(shifts([event(1, Tuned(agents=distances, frozen=(), waived=()))])) == []


def test_the_agent_is_named_whose_distance_grew_most() -> None:
    def tuned(number: int, arm: float, cart: float) -> Event:
        of_arm = ShiftRecord(alpha=1.0, estimated_distance=arm, share_earlier=0.25 * (number > 1), share_current=0.5)
        measured: dict[str, ShiftRecord] = {"arm": of_arm, "cart": {"estimated_distance": cart}}
        return event(number, Tuned(agents=measured, frozen=(), waived=()))

    assert most_moved(shifts([tuned(1, 1.0, 10.0)])) is None  # nothing to compare with
    found = shifts([event(0, Trained(updates=1, checkpoint="")), tuned(1, 1.0, 10.0), tuned(2, 1.5, 11.0)])
    assert [(shift.agent, shift.deployment, shift.growth) for shift in found] == [
        ("arm", 1, 1.0),
        ("cart", 1, 1.0),
        ("arm", 2, 1.5),
        ("cart", 2, pytest.approx(1.1)),
    ]
    assert found[2].online_share == 0.75 and found[3].online_share is None and found[3].alpha is None
    moved = most_moved(found)
    assert moved is not None and moved.agent == "arm"
