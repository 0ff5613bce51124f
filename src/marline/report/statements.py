"""What happened, in sentences that follow from the numbers: gains, losses and what cannot be told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from marline.evaluation import Difference, paired_difference
from marline.report.appearance import MINUS, Look, digits, join, number, plural
from marline.report.comparison import Comparison, Outcome
from marline.report.records import Run

FEW_SEEDS = 5
CONTROL = "its control, which replays equally many fresh rows"

# what a win, a draw or a loss against uniform replay means, given one against the control
CONCLUSIONS = {
    (1, 1): "choosing rows by their transitions helped beyond fresh data",
    (1, -1): "fresh data alone would have gained more, and the correction cost some of it",
    (0, 1): "the correction beats blind replay of fresh rows, but not uniform replay",
    (0, 0): "nothing here sets it apart",
    (0, -1): "the correction itself did harm",
    (-1, 1): "replaying more fresh rows did harm, and the correction made up for part of it",
    (-1, -1): "the correction itself did harm",
}


class Statement(NamedTuple):
    """A sentence about one sampler, and whether it is good news (1), bad (-1) or neither (0)."""

    sampler: str
    text: str
    verdict: int


def headline(run: Run, found: Sequence[Outcome], looks: Mapping[str, Look]) -> str:
    """What happened in this run, in one or two sentences."""
    tuned = [outcome for outcome in found if outcome.sampler in run.of_kind("otc")]
    told = statements(run, found, looks)
    if not found:
        return _only_offline(run)
    if not tuned:
        changes = [_change(outcome, looks) for outcome in found]
        changed = join(changes[:4] + ["others"] * (len(changes) > 4))
        return f"{_capital(changed)} over {_seeds(found[0].seeds)}; no OTC sampler was run."
    if len(tuned) == 1:
        return told[0].text
    parts = (_against_baseline(tuned, looks), _against_controls(tuned, looks), _against_offline(tuned, looks))
    return " ".join(part for part in parts if part)


def statements(run: Run, found: Sequence[Outcome], looks: Mapping[str, Look]) -> list[Statement]:
    """One sentence for each OTC sampler, in the order of the run."""
    names = run.of_kind("otc")
    return [_statement(run, outcome, looks) for outcome in found if outcome.sampler in names]


def overview(found: Sequence[tuple[Run, Sequence[Outcome]]], looks: Mapping[str, Look]) -> list[str]:
    """Over several runs: in how many each OTC sampler ended above or below its references."""
    told = []
    for name in sorted({name for run, _ in found for name in run.of_kind("otc")}, key=lambda name: looks[name].order):
        mine = [outcome for _, outcomes in found for outcome in outcomes if outcome.sampler == name]
        parts = [
            _tally([o.to_baseline for o in mine], "uniform replay"),
            _tally([o.to_control for o in mine], "its control"),
        ]
        if any(parts):
            told.append(f"{_capital(looks[name].label)} ended {' and '.join(part for part in parts if part)}.")
    return told


def _tally(comparisons: Sequence[Comparison | None], reference: str) -> str:
    verdicts = [c.difference.verdict for c in comparisons if c is not None and c.seeds]
    if not verdicts:
        return ""
    above, below = verdicts.count(1), verdicts.count(-1)
    return f"above {reference} in {above} of {plural(len(verdicts), 'run')}{f' (below in {below})' if below else ''}"


def caution(found: Sequence[Outcome]) -> str | None:
    """What the number of seeds allows to be said; of a single seed the sentences say it themselves."""
    compared = [c for outcome in found for c in (outcome.to_baseline, outcome.to_control) if c is not None and c.seeds]
    seeds = min((len(comparison.seeds) for comparison in compared), default=FEW_SEEDS)
    if seeds >= FEW_SEEDS or seeds == 1:
        return None
    return f"With {seeds} seeds this is a direction, not a result: intervals of so few come out far too narrow."


def interval(difference: Difference, *, sign: bool = True) -> str:
    """ "+2.1 [+0.4, +3.9]", or the mean alone where there is no interval."""
    decimals = digits([difference.mean, difference.low, difference.high])
    mean = number(difference.mean, decimals, sign=sign)
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return mean
    return f"{mean} [{number(difference.low, decimals, sign=sign)}, {number(difference.high, decimals, sign=sign)}]"


def _statement(run: Run, outcome: Outcome, looks: Mapping[str, Look]) -> Statement:
    name = _capital(looks[outcome.sampler].label)
    baseline, control = outcome.to_baseline, outcome.to_control
    compared = baseline or control
    if compared is None:
        change = f"{_capital(_change(outcome, looks))} over {_seeds(outcome.seeds)}"
        text = f"{change}; there is neither uniform replay nor a control to compare it with."
        return Statement(outcome.sampler, text, 0)
    if not compared.seeds:
        return Statement(outcome.sampler, f"{name} has no finite return to compare.", -1)
    when = f" over {_seeds(compared.seeds)}"
    when += f" of {len(run.seeds)}" if len(compared.seeds) < len(run.seeds) else ""
    if compared.deployment < run.num_deployments:
        when += f", after {compared.deployment} of {plural(run.num_deployments, 'deployment')}"
    reference = looks[baseline.b].label if baseline else "its control"
    if len(compared.seeds) == 1:
        so_far = " so far" if len(run.seeds) > 1 else ""
        text = f"In the only seed{so_far}, {looks[outcome.sampler].label} ended {_distance(compared, reference)}"
        if baseline and control and control.seeds:
            text += f" and {_distance(control, CONTROL)}"
        text += f"; one seed cannot tell this from chance. The return {_from_to(outcome)}."
        return Statement(outcome.sampler, text, 0)
    text = f"{name} {_clause(compared, reference, when)}"
    if baseline and control and control.seeds:
        text += f"{_second(baseline, control)}, {_conclusion(baseline, control)}."
    elif baseline:
        gained = baseline.difference.verdict > 0
        text += "; no control has been deployed, so how much of it is fresh data is open." if gained else "."
    else:
        text += ", which replays equally many fresh rows; there is no uniform replay to compare it with."
    text += f" The return {_from_to(outcome)}."
    text += f" {plural(compared.lost, 'seed')} left out: not finite." if compared.lost else ""
    return Statement(outcome.sampler, text, _verdict(baseline, control))


def _verdict(baseline: Comparison | None, control: Comparison | None) -> int:
    verdicts = [comparison.difference.verdict for comparison in (baseline, control) if comparison is not None]
    return min(verdicts) if min(verdicts) < 0 or min(verdicts) == max(verdicts) else 0


def _clause(comparison: Comparison, reference: str, when: str) -> str:
    difference = comparison.difference
    if difference.verdict:
        return f"ended {_distance(comparison, reference)}{when}"
    return f"cannot be told from {reference} ({interval(difference)}{when})"


def _second(baseline: Comparison, control: Comparison) -> str:
    first, second = baseline.difference.verdict, control.difference.verdict
    if second:
        return f", {'and' if first == second else 'but'}{'' if first else ' ended'} {_distance(control, CONTROL)}"
    return f", {'but cannot be told' if first else 'nor'} from {CONTROL} ({interval(control.difference)})"


def _conclusion(baseline: Comparison, control: Comparison) -> str:
    change, beyond = baseline.difference, control.difference
    seeds = min(len(baseline.seeds), len(control.seeds))
    so = "so" if seeds >= FEW_SEEDS else f"so, as far as {plural(seeds, 'seed')} can tell,"
    if beyond.verdict or not change.verdict:
        return f"{so} {CONCLUSIONS[change.verdict, beyond.verdict]}"
    what, due = ("gain", "is fresh data") if change.verdict > 0 else ("loss", "comes with the fresh data")
    if beyond.mean * change.verdict <= abs(change.mean) / 2:
        return f"{so} most of the {what} {due}"
    return f"{so} how much of the {what} {due} is open"


def _distance(comparison: Comparison, reference: str) -> str:
    """ "2.1 [0.4, 3.9] above uniform replay"."""
    mean, low, high, per_seed = comparison.difference
    if mean < 0:
        return f"{interval(Difference(-mean, -high, -low, per_seed), sign=False)} below {reference}"
    return f"{interval(comparison.difference, sign=False)} above {reference}"


def _against_baseline(tuned: Sequence[Outcome], looks: Mapping[str, Look]) -> str:
    told = {o.sampler: o.to_baseline.difference for o in tuned if o.to_baseline is not None and o.to_baseline.seeds}
    if not told:
        return "There is no uniform replay to compare with."
    if all(len(difference.per_seed) < 2 for difference in told.values()):
        return f"{len(tuned)} OTC samplers ran in one seed, which cannot tell a difference from chance."
    reference = next(looks[o.to_baseline.b].label for o in tuned if o.to_baseline is not None)
    parts = []
    for verdict, what in ((1, "ended above"), (-1, "ended below"), (0, "cannot be told from")):
        if names := [name for name in told if told[name].verdict == verdict]:
            parts.append(f"{_who(names, told, looks)} {what} {'it' if parts else reference}")
    return f"{_capital('; '.join(parts))}."


def _against_controls(tuned: Sequence[Outcome], looks: Mapping[str, Look]) -> str:
    told = {o.sampler: o.to_control.difference for o in tuned if o.to_control is not None and o.to_control.seeds}
    if not told:
        return "No control has been deployed, so how much of this is fresh data is open."
    if all(len(difference.per_seed) < 2 for difference in told.values()):
        return ""
    better = [name for name in told if told[name].verdict > 0]
    worse = [name for name in told if told[name].verdict < 0]
    loss = f", and {_who(worse, told, looks)} ended below" if worse else ""
    if not better:
        return f"None ended above {CONTROL}{loss}: no gain is shown to come from the correction itself."
    only = "" if len(better) == len(told) else "only "
    return f"{_capital(only + _who(better, told, looks))} ended above {CONTROL}{loss}."


def _who(names: Sequence[str], among: Mapping[str, object], looks: Mapping[str, Look]) -> str:
    if len(names) == len(among) > 1:
        return f"{'both' if len(names) == 2 else f'all {len(names)}'} OTC samplers"
    return join([looks[name].label for name in names]) if len(names) <= 3 else f"{len(names)} of {len(among)}"


def _against_offline(tuned: Sequence[Outcome], looks: Mapping[str, Look]) -> str:
    """Said only of those that fell: a gain over uniform replay may be a slower decline."""
    told = {o.sampler: paired_difference(o.last, o.first) for o in tuned if o.seeds}
    fallen = [name for name in told if told[name].verdict < 0]
    return f"{_capital(_who(fallen, told, looks))} ended below the offline team." if fallen else ""


def _change(outcome: Outcome, looks: Mapping[str, Look]) -> str:
    return f"{looks[outcome.sampler].label} {_from_to(outcome)}"


def _from_to(outcome: Outcome) -> str:
    """ "went from -84.8 to -82.8"."""
    before = [value for value in outcome.first if math.isfinite(value)]
    after = outcome.final.mean
    decimals = digits([*before, after])
    start = f" from {number(sum(before) / len(before), decimals)}" if before else ""
    return f"went{start} to {number(after, decimals)}"


def _only_offline(run: Run) -> str:
    returns = {seed: value for sampler in run.samplers for seed, value in run.returns(sampler.name, 0).items()}
    if not returns:
        return "Nothing has been measured yet."
    mean = number(sum(returns.values()) / len(returns), digits(list(returns.values())))
    if run.settings["task"] is None:  # a team in the real world is measured where it is deployed
        return f"Only the offline team was out so far: it returned {mean} per episode."
    return f"Nothing has been deployed yet: the offline team returns {mean} over {_seeds(list(returns))}."


def _seeds(seeds: Sequence[int]) -> str:
    return plural(len(seeds), "seed")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if not text.startswith(MINUS) else text
