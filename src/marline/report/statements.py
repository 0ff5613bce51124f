"""What happened, in sentences that follow from the numbers: gains, losses and what cannot be told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from marline.display.words import plural
from marline.report import agent_returns
from marline.report.appearance import MINUS, Look, digits, join, number
from marline.report.comparison import VERDICTS, Comparison, Finding, Outcome
from marline.report.coverage import UNTOLD
from marline.report.records import Run
from marline.runs.events import MIN_EPISODES
from marline.statistics.aggregation import paired_probability_of_improvement
from marline.statistics.intervals import MIN_SEEDS, Difference, paired_difference, welch_interval

SHUFFLED = "its shuffled control, which draws other rows of the same sources as often"
MATCHED = "its matched control, which replays equally many fresh rows"

# what a comparison with the shuffled control says of the correction
CONCLUSIONS: dict[Finding, str] = {
    "above": "choosing these rows helped",
    "below": "choosing these rows did harm",
    "equal": "which rows are chosen makes no difference of that size",
    "not told apart": "whether choosing these rows helps is open",
}
# of several samplers at once
PAST: dict[Finding, str] = {
    "above": "ended above",
    "below": "ended below",
    "equal": "ended equal to",
    "not told apart": "cannot be told from",
    "pointing up": "pointed above",
    "pointing down": "pointed below",
    "no direction": "showed no direction against",
    "one seed": "ran in one seed, which cannot be told from chance, against",
}


class Statement(NamedTuple):
    """A sentence about one sampler."""

    sampler: str
    text: str


def headline(run: Run, found: Sequence[Outcome], looks: Mapping[str, Look]) -> str:
    """What happened in this run, in one or two sentences, and whose the returns are where agents have their own."""
    is_whose = agent_returns.whose(run)
    of_agents = f"Returns are the {is_whose}." if is_whose.startswith("mean") else ""
    return " ".join(filter(None, [_happened(run, found, looks), of_agents]))


def _happened(run: Run, found: Sequence[Outcome], looks: Mapping[str, Look]) -> str:
    if run.is_campaign and found:
        return _in_the_field(run, found[0], looks)
    tuned = [outcome for outcome in found if outcome.sampler in run.methods]
    told = statements(run, found, looks)
    if not found:
        return _only_offline(run)
    if not tuned:
        changes = [_change(outcome, looks) for outcome in found]
        changed = join(changes[:4] + ["others"] * (len(changes) > 4))
        over = f"over {_seeds(found[0].seeds)}{_to_baseline(found, looks)}"
        return (
            f"{_capital(changed)} {over}; {'it prefers no rows' if len(found) == 1 else 'none of them prefers rows'}."
        )
    if len(tuned) == 1:
        return told[0].text
    return " ".join(
        filter(None, [_correction(tuned, looks), _several(run, tuned, looks), _against_offline(tuned, looks)])
    )


def _to_baseline(found: Sequence[Outcome], looks: Mapping[str, Look]) -> str:
    """ "; frozen ended 2.1 [0.4, 3.9] below uniform replay", of samplers that are no method."""
    told = [o.to_baseline for o in found if o.to_baseline is not None and o.to_baseline.seeds]
    return "".join(f"; {looks[its.a].label} {_clause(its, looks[its.b].label)}" for its in told[:4])


def statements(run: Run, found: Sequence[Outcome], looks: Mapping[str, Look]) -> list[Statement]:
    """One sentence for each sampler that prefers rows, in the order of the run."""
    return [
        Statement(outcome.sampler, _statement(run, outcome, looks))
        for outcome in found
        if outcome.sampler in run.methods
    ]


def overview(found: Sequence[tuple[Run, Sequence[Outcome]]], looks: Mapping[str, Look]) -> list[str]:
    """Over several runs: in how many each sampler ended above or below its references."""
    told = []
    for name in sorted({name for run, _ in found for name in run.methods}, key=lambda name: looks[name].order):
        mine = [outcome for _, outcomes in found for outcome in outcomes if outcome.sampler == name]
        parts = [
            _tally([o.to_shuffled for o in mine], "its shuffled control"),
            _tally([o.to_matched for o in mine], "its matched control"),
            _tally([o.to_baseline for o in mine], "uniform replay"),
        ]
        if any(parts):
            told.append(f"{_capital(looks[name].label)} {', '.join(part for part in parts if part)}.")
        if sentence := _beats([o.to_baseline for o in mine]):
            told.append(sentence)
    return told


def _tally(comparisons: Sequence[Comparison | None], reference: str) -> str:
    findings = [c.finding for c in comparisons if c is not None and c.seeds]
    if not findings:
        return ""
    directions = sum(finding not in VERDICTS for finding in findings)
    if directions == len(findings):
        up, down = findings.count("pointing up"), findings.count("pointing down")
        text = f"pointed above {reference} in {up} of {plural(len(findings), 'run')}"
        return f"{text} ({f'below in {down}; ' if down else ''}directions, no verdicts)"
    beside = [f"below in {below}"] if (below := findings.count("below")) else []
    beside += [f"a direction, no verdict, in {directions}"] if directions else []
    text = f"ended above {reference} in {findings.count('above')} of {plural(len(findings), 'run')}"
    return f"{text} ({'; '.join(beside)})" if beside else text


def _beats(comparisons: Sequence[Comparison | None]) -> str:
    """How often it beat uniform replay in the same seed, over tasks."""
    tasks = [c.difference.per_seed for c in comparisons if c is not None and c.seeds]
    if len(tasks) < 2:
        return ""
    num = sum(map(len, tasks))
    won = sum(value > 0 for task in tasks for value in task)
    text = f"It beat uniform replay in {won} of the {num} seeds of these runs"
    chance, low, high = paired_probability_of_improvement(tasks, [[0.0] * len(task) for task in tasks])
    if min(map(len, tasks)) < MIN_SEEDS or low == high:  # of few seeds, or where all agree, draws tell nothing
        return f"{text}."
    return f"{text} (probability of improvement {chance:.2f} [{low:.2f}, {high:.2f}])."


def caution(found: Sequence[Outcome]) -> str | None:
    """What the number of seeds allows to be said; of a single seed the sentences say it themselves."""
    seeds = min((len(comparison.seeds) for outcome in found for comparison in outcome.comparisons), default=MIN_SEEDS)
    if seeds >= MIN_SEEDS or seeds == 1:
        return None
    return f"With {seeds} seeds these are directions, not verdicts, which take at least {MIN_SEEDS} seeds."


def interval(difference: Difference, *, sign: bool = True) -> str:
    """ "+2.1 [+0.4, +3.9]", or the mean alone where there is no interval."""
    decimals = digits([difference.mean, difference.low, difference.high])
    mean = number(difference.mean, decimals, sign=sign)
    if difference.is_constant:
        return f"{mean} in every seed"
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return mean
    return f"{mean} [{number(difference.low, decimals, sign=sign)}, {number(difference.high, decimals, sign=sign)}]"


def finding_text(comparison: Comparison) -> str:
    """ "above", or "a direction, up"; with the p of the sign-flip test, where there are seeds to flip."""
    words: dict[Finding, str] = {
        "pointing up": "a direction, up",
        "pointing down": "a direction, down",
        "equal": f"equal within {number(comparison.margin, digits([comparison.margin]))}",
    }
    text = words.get(comparison.finding, comparison.finding)
    p = comparison.difference.p_sign_flip
    return f"{text}; sign-flip p {_p(p)}" if len(comparison.seeds) > 1 and math.isfinite(p) else text


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else "< 0.001"


def field_change(run: Run, outcome: Outcome) -> Difference:
    """Of a campaign: what its last deployment that is known returned over the first, by Welch's t over episodes."""
    now, before = (run.episodes(outcome.sampler, outcome.seeds[0], at) for at in (outcome.deployment, 0))
    mean = outcome.last[0] - outcome.first[0]
    return Difference(mean, *welch_interval(now, before), (mean,))


def field_improvement(run: Run, outcome: Outcome) -> Difference:
    """The same in percent of what deployment 1 returned."""
    mean, low, high, _ = field_change(run, outcome)
    share = 100 / abs(outcome.first[0] or math.nan)
    return Difference(share * mean, share * low, share * high, (share * mean,))


def _in_the_field(run: Run, outcome: Outcome, looks: Mapping[str, Look]) -> str:
    """The change of a campaign's return; deployments are numbered as its commands number them."""
    change = field_change(run, outcome)
    decimals = digits([*outcome.first, *outcome.last])
    before, now = (number(value, decimals) for value in (outcome.first[0], outcome.last[0]))
    told = f"The team returned {before} in deployment 1 and, tuned with {looks[outcome.sampler].label}, {now} in "
    told += f"deployment {run.measured_in(outcome.deployment)}: {interval(change)}"
    if not math.isfinite(change.low):
        return f"{told}, of too few episodes for an interval."
    num = min(len(run.episodes(outcome.sampler, outcome.seeds[0], at)) for at in (0, outcome.deployment))
    if change.sign and num < MIN_EPISODES:
        return f"{told}, a direction, for a verdict takes {MIN_EPISODES} episodes of each."
    return f"{told}, {'over episodes' if change.sign else 'so episodes do not tell the two apart'}."


def _statement(run: Run, outcome: Outcome, looks: Mapping[str, Look]) -> str:
    if run.is_campaign:
        return _in_the_field(run, outcome, looks)
    name = _capital(looks[outcome.sampler].label)
    baseline, shuffled, matched = (
        comparison if comparison is not None and comparison.seeds else None
        for comparison in (outcome.to_baseline, outcome.to_shuffled, outcome.to_matched)
    )
    told = [
        (comparison, reference)
        for comparison, reference in (
            (shuffled, SHUFFLED),
            (baseline, looks[baseline.b].label if baseline else ""),
            (matched if shuffled is None else None, MATCHED),
        )
        if comparison is not None
    ]
    if not told:
        if any(one is not None for one in (outcome.to_baseline, outcome.to_shuffled, outcome.to_matched)):
            return f"{name} has no finite return to compare."
        change = f"{_capital(_change(outcome, looks))} over {_seeds(outcome.seeds)}"
        return f"{change}; there is neither uniform replay nor a control to compare it with."
    first, reference = told[0]
    if len(first.seeds) == 1:
        so_far = " so far" if len(run.seeds) > 1 else ""
        text = f"In the only seed{so_far}, {looks[outcome.sampler].label} ended {_distance(first, reference)}"
        text += "".join(f", and {_distance(other, its)}" for other, its in told[1:] if len(other.seeds) == 1)
        return f"{text}; one seed cannot tell this from chance. The return {_from_to(outcome)}."
    text = f"Over {_seeds(first.seeds)}"
    text += f" of {len(run.seeds)}" if len(first.seeds) < len(run.seeds) else ""
    if first.deployment < run.num_deployments:
        text += f", after {first.deployment} of {plural(run.num_deployments, 'deployment')}"
    text += f", {looks[outcome.sampler].label} {_clause(first, reference)}{_lost(first)}"
    if shuffled is not None and not (shuffled.is_equal and shuffled.finding in ("above", "below")):
        text += f", so {conclusion}" if (conclusion := CONCLUSIONS.get(shuffled.finding)) else ""
    for other, its in told[1:]:
        seeds = f" over {_seeds(other.seeds)}" if len(other.seeds) != len(first.seeds) else ""
        text += f"; it {_clause(other, its)}{seeds}{_lost(other)}"
    if shuffled is None:
        gone = "Its shuffled control has no finite return, so" if outcome.to_shuffled else "Without a shuffled control,"
        text += f". {gone} {UNTOLD}"
    text += "" if baseline is not None else ". There is no uniform replay to compare it with"
    return f"{text}. The return {_from_to(outcome)}."


def _lost(comparison: Comparison) -> str:
    return f" ({plural(comparison.lost, 'seed')} left out: not finite)" if comparison.lost else ""


def _clause(comparison: Comparison, reference: str) -> str:
    finding = comparison.finding
    if finding in ("above", "below"):
        little = ", by less than what counts as equal" if comparison.is_equal else ""
        return f"ended {_distance(comparison, reference)}{little}"
    if finding in ("pointing up", "pointing down"):
        return f"pointed {_distance(comparison, reference)} (a direction, no verdict)"
    within = ""
    if finding == "equal":
        within = f" within {number(comparison.margin, digits([comparison.margin]))}"
    return f"{PAST[finding]} {reference}{within} ({interval(comparison.difference)})"


def _distance(comparison: Comparison, reference: str) -> str:
    """ "2.1 [0.4, 3.9] above uniform replay"."""
    mean, low, high, per_seed = comparison.difference
    if mean < 0:
        turned = Difference(-mean, -high, -low, tuple(-value for value in per_seed))
        return f"{interval(turned, sign=False)} below {reference}"
    return f"{interval(comparison.difference, sign=False)} above {reference}"


def _several(run: Run, tuned: Sequence[Outcome], looks: Mapping[str, Look]) -> str:
    told = {o.sampler: o.to_baseline for o in tuned if o.to_baseline is not None and o.to_baseline.seeds}
    if run.baseline is None or not told:
        return "There is no uniform replay to compare with."
    baseline = looks[run.baseline].label
    return f"{_capital(_by_finding(told, (baseline, baseline), ('it', 'it'), looks))}."


def _correction(tuned: Sequence[Outcome], looks: Mapping[str, Look]) -> str:
    """Against the shuffled controls; or against the matched ones, and what those cannot tell."""
    shuffled = {o.sampler: o.to_shuffled for o in tuned if o.to_shuffled is not None and o.to_shuffled.seeds}
    matched = {o.sampler: o.to_matched for o in tuned if o.to_matched is not None and o.to_matched.seeds}
    own = "its own", "their own"
    if shuffled:
        references = SHUFFLED, "their shuffled controls, which draw other rows of the same sources as often"
        gained = any(comparison.finding in ("above", "pointing up") for comparison in shuffled.values())
        shown = "" if gained else ": no gain is shown to come from the correction itself"
        return f"{_capital(_by_finding(shuffled, references, own, looks))}{shown}."
    if matched:
        references = MATCHED, "their matched controls, which replay equally many fresh rows"
        return f"{_capital(_by_finding(matched, references, own, looks))}. Without shuffled controls, {UNTOLD}."
    return f"No control has been deployed, so {UNTOLD}."


def _by_finding(
    told: Mapping[str, Comparison], first: tuple[str, str], later: tuple[str, str], looks: Mapping[str, Look]
) -> str:
    """ "A and B ended above uniform replay; C cannot be told from it".

    Args:
        first, later: what they are compared with where it is named first and after that, for one sampler and for many.
    """
    parts = []
    for finding, what in PAST.items():
        if names := [name for name in told if told[name].finding == finding]:
            reference = (later if parts else first)[len(names) > 1]
            parts.append(f"{_who(names, told, looks)} {what} {reference}")
    return "; ".join(parts)


def _who(names: Sequence[str], among: Mapping[str, object], looks: Mapping[str, Look]) -> str:
    if len(names) == len(among) > 1:
        return f"{'both' if len(names) == 2 else f'all {len(names)}'} samplers that prefer rows"
    return join([looks[name].label for name in names]) if len(names) <= 3 else f"{len(names)} of {len(among)}"


def _against_offline(tuned: Sequence[Outcome], looks: Mapping[str, Look]) -> str:
    """Said only of those that fell: a gain over uniform replay may be a slower decline."""
    told = {o.sampler: paired_difference(o.last, o.first) for o in tuned if o.seeds}
    fallen = [name for name in told if told[name].verdict < 0]
    falling = [name for name in told if told[name].sign < 0 and name not in fallen]
    parts = [f"{_who(fallen, told, looks)} ended below the offline team"] if fallen else []
    parts += [f"{_who(falling, told, looks)} pointed below the offline team"] if falling else []
    return f"{_capital('; '.join(parts))}." if parts else ""


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
