"""What `marline status` prints; imports no JAX, for it answers at once."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from marline.campaign.regression import describe as describe_gate
from marline.campaign.shift import LIMIT, describe_changes, most_moved
from marline.campaign.status import Status as Standing
from marline.campaign.status import status as read_status
from marline.cli.options.campaign import Status
from marline.display.console import can_show, say, say_json
from marline.display.words import logs_to_come
from marline.ops.distance_bins import EDGES
from marline.runs.divergences import sentence
from marline.runs.events import written

BARS = " ▁▂▃▄▅▆▇█"
_WIDEST_NAME = 16  # letters of an agent's name in a line; longer ones take several
_MOST_BARS = 16
DIGITS = " 12345678"  # where the terminal lacks them


def status(options: Status) -> int:
    """`marline status`."""
    found = read_status(options.run)
    if options.json:
        agents = {agent: its._asdict() for agent, its in found.agents.items()}
        moved = [shift._asdict() for shift in found.shifts]
        diverged = [stop._asdict() for stop in found.diverged]
        gate = None if found.gate is None else written(found.gate)
        parts = {
            "agents": agents,
            "shifts": moved,
            "distance_edges": EDGES.tolist(),
            "diverged": diverged,
            "gate": gate,
        }
        say_json({**found._asdict(), **parts})
        return 0
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    say(f"{found.run}: {found.algorithm} with {found.sampler}, {len(found.agents)} agents")
    say(_line(found))
    done = found.deployments if found.stage == "done" else found.deployment - 1
    say(
        f"budget: {done} of {found.deployments} deployments done, "
        f"each of at most {found.rows_per_deployment:,} rows per agent"
    )
    if found.returns:
        deployed = ", ".join(f"{number + 1}: {value:.4g}" for number, value in found.returns.items())
        say(f"return per episode{f', {found.return_is},' if found.return_is else ''} in deployment {deployed}")
    Console().print(_table(found))
    if found.shifts:
        if any(shift.change_nats is None for shift in found.shifts):
            Console().print(_shift_table(found))
        for line in describe_changes(found.shifts):
            say(line)
        moved = most_moved(found.shifts)
        if moved is not None and moved.growth is not None:
            say(
                f"the world of {moved.agent} moved most: its distance grew by {100 * (moved.growth - 1):.0f} %; {LIMIT}"
            )
    for stop in found.diverged:
        say(sentence(stop, options.run))
    if found.gate is not None:
        for line in describe_gate(found.gate, options.run):
            say(line)
    say(f"  next: {found.next}")
    return 0


def _line(found: Standing) -> str:
    number = found.deployment
    arrived = len(found.agents) - len(found.waiting_for)
    absent = [agent for agent in found.waiting_for if found.agents[agent].rows is None]
    parts = [agent for agent in found.waiting_for if agent not in absent]
    return {
        "training": f"training offline: {found.updates_done:,} of {found.offline_updates:,} updates are saved",
        "ready": f"ready for deployment {number}: no bundle of it went out yet",
        "out": f"deployment {number} is out since {found.out_since}: waiting for its logs. It is safe to switch off.",
        "waiting": f"deployment {number}: WAITING {arrived}/{len(found.agents)}, {logs_to_come(absent, parts)}",
        "ingested": f"deployment {number}: logs are in, and the team is not tuned on them yet",
        "done": f"all {found.deployments} deployments are done",
    }[found.stage]


def _table(found: Standing) -> Table:
    """At most 80 letters wide."""
    returned = max((max(its.returns) for its in found.agents.values() if its.returns), default=None)
    table = _empty_table("tuned\non", "policy\nthat is out", "rows\nmerged", f"rows of\ndeployment {found.deployment}")
    if returned is not None:
        table.add_column(f"return in\ndeployment {returned + 1}", justify="right")
    for agent, its in found.agents.items():
        tuned_on = f"deployment {its.tuned_on}" if its.tuned_on else "offline"
        out = ", ".join(policy[:12] for policy in its.policies) or "-"
        rows = "-" if its.rows is None else f"{its.rows:,}"
        value = [] if returned is None else [_number(its.returns.get(returned), "{:.4g}")]
        table.add_row(escape(agent), tuned_on, out, f"{its.online_rows:,}", rows, *value)
    return table


def _shift_table(found: Standing) -> Table:
    """The last deployment that each agent was tuned or frozen in."""
    last = {shift.agent: shift for shift in found.shifts}.values()
    used = [place for shift in last for place, count in enumerate(shift.histogram or ()) if count]
    low, high = min(used, default=0), max(used, default=0)
    span = f"{EDGES[max(0, low - 1)]:.2g} to {EDGES[min(high, len(EDGES) - 1)]:.2g}"
    table = _empty_table(
        "tuned\nin", "\nalpha", "\ndistance", "to the\nfirst", "effective\nrows", "online\nshare", f"distances\n{span}"
    )
    for shift in last:
        table.add_row(
            escape(shift.agent),
            str(shift.deployment),
            _number(shift.alpha, "{:.2f}"),
            _number(shift.distance, "{:.3g}"),
            _number(shift.growth, "x {:.2f}"),
            _number(shift.effective_sample_size, "{:.0f}"),
            _number(shift.online_share, "{:.0%}"),
            _bars((shift.histogram or ())[low : high + 1]),
        )
    return table


def _empty_table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("\nagent", max_width=_WIDEST_NAME, overflow="fold")
    for title in titles:
        is_text = title.startswith(("tuned\non", "policy", "distances"))
        table.add_column(title, justify="left" if is_text else "right")
    return table


def _bars(counts: Sequence[int]) -> str:
    """Counts as bars of text, the largest as high as a line; of many, those beside each other together."""
    while len(counts) > _MOST_BARS:
        counts = [sum(counts[place : place + 2]) for place in range(0, len(counts), 2)]
    most, bars = max(counts, default=0), BARS if can_show(BARS) else DIGITS
    return "".join(bars[math.ceil(count / most * (len(bars) - 1))] for count in counts) if most > 0 else "-"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
