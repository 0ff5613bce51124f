"""How good a team is on one task, and how sure one can be that it is better than another.

One value per seed goes in; samplers of one seed start from the same offline team, so they are
compared in pairs: Student's t interval of the paired differences, a sign-flip test beside it, and
two one-sided tests for equality. NaN in gives NaN out: leaving a seed out is a decision for the
caller, who has to say so. Several tasks are put together by `marline.statistics.aggregation`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from marline.errors import require

Values = Sequence[float] | Sequence[int] | np.ndarray

CONFIDENCE = 0.95
MIN_SEEDS = 10  # fewer give a direction, never a verdict
EQUALITY_MARGIN = 0.02  # of |J_0|, fixed before anything is looked at
MAX_EXACT = 20  # seeds of which all 2^n signs are tried
NUM_SIGN_DRAWS = 100_000


class Spread(NamedTuple):
    """Mean and population standard deviation over seeds."""

    mean: float
    std: float


class Interval(NamedTuple):
    """The ends of an interval; NaN where there is none, which `str` says."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:+.3g}, {self.high:+.3g}]" if np.isfinite(self).all() else "(too few for an interval)"


class Difference(NamedTuple):
    """A paired difference over seeds: its mean, the 95 % interval of the mean, and every seed's own.

    With a single seed there is no interval: `low` and `high` are NaN, and `str` says so. Where every seed gives the
    same difference both are that difference, and `str` says so.
    """

    mean: float
    low: float
    high: float
    per_seed: tuple[float, ...]

    @property
    def sign(self) -> int:
        """1 if the whole interval is above 0, -1 if below, 0 if it holds 0 or there is none."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def verdict(self) -> int:
        """`sign` where there are at least `MIN_SEEDS` seeds; fewer give a direction, so 0."""
        return self.sign if len(self.per_seed) >= MIN_SEEDS else 0

    @property
    def is_constant(self) -> bool:
        """Whether every seed, of at least two, gives the same difference, up to rounding."""
        return len(self.per_seed) > 1 and _is_constant(np.asarray(self.per_seed))

    @property
    def p(self) -> float:
        """Two-sided p of the paired t test; NaN where there is no interval."""
        return _p_of_mean(np.asarray(self.per_seed))

    @property
    def p_sign_flip(self) -> float:
        """`sign_flip_p` of the seeds' differences."""
        return sign_flip_p(self.per_seed)

    def __str__(self) -> str:
        num = len(self.per_seed)
        if num == 0:
            return "no seeds"
        if not np.isfinite(self.per_seed).all():
            return f"not finite ({num} {'seed' if num == 1 else 'seeds'})"
        if num == 1:
            return f"{self.mean:+.3g} (1 seed, no interval)"
        if self.is_constant:
            return f"{self.mean:+.3g} (the same in all {num} seeds)"
        return f"{self.mean:+.3g} [{self.low:+.3g}, {self.high:+.3g}] ({num} seeds)"


class Equality(NamedTuple):
    """Whether a mean lies within a margin around 0, by two one-sided t tests.

    Attributes:
        margin: fixed before looking.
        low, high: the 90 % interval of the mean, which the tests at 5 % amount to; NaN below 2 seeds.
        p: the larger of both tests' p.
    """

    margin: float
    low: float
    high: float
    p: float

    @property
    def holds(self) -> bool:
        """Whether the whole interval lies within the margin."""
        return -self.margin < self.low and self.high < self.margin


def improvement_percent(first: Values, last: Values) -> np.ndarray:
    """100 (J_K - J_0) / |J_0| per seed; NaN where J_0 is 0.

    Average these, so that a table shows the mean of ratios and not the ratio of means. |J_0|
    keeps the sign right where returns are negative.
    """
    first, last = _paired(first, last)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(first == 0, np.nan, 100 * (last - first) / np.abs(first))


def normalized_score(returns: Values, *, random: float, expert: float) -> np.ndarray:
    """100 (J - J_random) / (J_expert - J_random), the scale of D4RL."""
    require(random != expert, f"random and expert return are both {random}, which gives no scale to measure on")
    return 100 * (np.asarray(returns, np.float64) - random) / (expert - random)


def spread(values: Values) -> Spread:
    """Mean and population standard deviation, as in the tables; NaN without values."""
    values = np.asarray(values, np.float64)
    if values.size == 0:
        return Spread(np.nan, np.nan)
    return Spread(float(np.mean(values)), float(np.std(values)))


def iqm(values: Values, axis: int = -1) -> np.ndarray | np.floating:
    """Interquartile mean: the mean without the floor(n / 4) lowest and highest values."""
    ordered = np.moveaxis(np.sort(np.asarray(values, np.float64), axis=axis), axis, -1)
    n = ordered.shape[-1]
    require(n > 0, "the interquartile mean of no values was asked for; it needs at least 1")
    return np.mean(ordered[..., n // 4 : n - n // 4], axis=-1)


def mean_interval(values: Values, *, confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval of a mean: mean +- t s / sqrt(n), with n - 1 degrees of freedom.

    Args:
        values: independent of each other; fewer than 2, or one that is not finite, give NaN for both ends.
        confidence: how often such intervals hold the mean, where values are normal.
    """
    _require_share(confidence)
    values = np.asarray(values, np.float64)
    if values.size < 2 or not np.isfinite(values).all():
        return Interval(math.nan, math.nan)
    mean = float(np.mean(values))
    half = _t_quantile((1 + confidence) / 2, float(values.size - 1)) * _standard_error(values)
    return Interval(mean - half, mean + half)


def welch_interval(a: Values, b: Values, *, confidence: float = CONFIDENCE) -> Interval:
    """Welch's t interval of mean(a) - mean(b), of two samples that have nothing to do with each other.

    The degrees of freedom are (u + v)^2 / (u^2 / (n - 1) + v^2 / (m - 1)), where u and v are the squared standard
    errors of both means. Fewer than 2 values on a side, or one that is not finite, give NaN for both ends.
    """
    _require_share(confidence)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(a.size, b.size) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Interval(math.nan, math.nan)
    mean, u, v = float(np.mean(a) - np.mean(b)), _standard_error(a) ** 2, _standard_error(b) ** 2
    if u + v == 0:
        return Interval(mean, mean)
    freedom = (u + v) ** 2 / (u**2 / (a.size - 1) + v**2 / (b.size - 1))
    half = _t_quantile((1 + confidence) / 2, freedom) * math.sqrt(u + v)
    return Interval(mean - half, mean + half)


def paired_difference(a: Values, b: Values, *, confidence: float = CONFIDENCE) -> Difference:
    """Mean of a - b over seeds, with Student's t interval of the paired differences.

    Args:
        a: returns of one sampler, one per seed.
        b: returns of the other, of the same seeds in the same order.
    """
    a, b = _paired(a, b)
    with np.errstate(invalid="ignore"):  # inf - inf
        differences = a - b
    return Difference(
        spread(differences).mean, *mean_interval(differences, confidence=confidence), tuple(differences.tolist())
    )


def sign_flip_p(differences: Values, *, seed: int = 0) -> float:
    """How often the sum of the differences would be as far from 0 if every sign were a toss of a coin.

    Exact up to `MAX_EXACT` seeds: the share of all 2^n signs that give a sum at least as large in size, so at
    least 2 / 2^n. Beyond that, of `NUM_SIGN_DRAWS` random signs, the observed ones counted as one of them
    (Phipson & Smyth 2010). Asks of noise no more than that it is symmetric around 0. NaN without values, or with one
    that is not finite.
    """
    differences = np.asarray(differences, np.float64)
    if differences.size == 0 or not np.isfinite(differences).all():
        return math.nan
    tolerance = 1e-9 * float(np.sum(np.abs(differences)))  # so that equal sums count as equal
    least = abs(float(np.sum(differences))) - tolerance
    if differences.size <= MAX_EXACT:
        sums = differences[:1]  # turning all signs turns the sum: the first may stay
        for value in differences[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= least))
    signs = np.random.default_rng(seed).integers(0, 2, (NUM_SIGN_DRAWS, differences.size), np.int8) * 2 - 1
    return float((np.sum(np.abs(signs @ differences) >= least) + 1) / (NUM_SIGN_DRAWS + 1))


def equality(differences: Values, margin: float, *, level: float = 0.05) -> Equality:
    """Two one-sided t tests (Schuirmann 1987) of a mean within (-margin, margin).

    Equality is shown where both tests reject, never by a difference that is "not significant".

    Args:
        differences: paired, one per seed.
        margin: what counts as equal, fixed before looking; with 0 nothing is.
        level: of each of both tests.
    """
    _require_share(level)
    require(
        margin >= 0 and math.isfinite(margin), f"a margin of {margin} was given, but equality needs one of 0 or more"
    )
    differences = np.asarray(differences, np.float64)
    low, high = mean_interval(differences, confidence=1 - 2 * level)
    p = float(np.maximum(_p_above(differences + margin), _p_above(margin - differences)))  # NaN stays NaN
    return Equality(margin, low, high, p)


def equality_margin(offline: Values) -> float:
    """`EQUALITY_MARGIN` of the size of the mean offline return; 0, so that nothing is equal, where that is unknown."""
    offline = np.asarray(offline, np.float64)
    offline = offline[np.isfinite(offline)]
    return EQUALITY_MARGIN * abs(float(np.mean(offline))) if offline.size else 0.0


def _p_of_mean(values: np.ndarray) -> float:
    """Two-sided p of a mean of 0."""
    return float(np.minimum(1.0, 2 * np.minimum(_p_above(values), _p_above(-values))))  # NaN stays NaN


def _p_above(values: np.ndarray) -> float:
    """One-sided p of a mean of at most 0; NaN below 2 values, or with one that is not finite."""
    if values.size < 2 or not np.isfinite(values).all():
        return math.nan
    mean, error = float(np.mean(values)), _standard_error(values)
    if error == 0:
        return 0.0 if mean > 0 else 1.0
    from scipy.special import stdtr  # beginning a command takes no statistics

    return float(stdtr(values.size - 1, -mean / error))


def _standard_error(values: np.ndarray) -> float:
    return 0.0 if _is_constant(values) else float(np.std(values, ddof=1)) / math.sqrt(values.size)


def _is_constant(values: np.ndarray) -> bool:
    return float(np.ptp(values)) <= 1e-12 * float(np.max(np.abs(values)))


def _t_quantile(share: float, freedom: float) -> float:
    """The value that Student's t lies below with a probability of `share`."""
    from scipy.special import stdtrit  # beginning a command takes no statistics

    return float(stdtrit(freedom, share))


def _require_share(share: float) -> None:
    require(0 < share < 1, f"a level or confidence of {share} was given, but it must be between 0 and 1")


def _paired(a: Values, b: Values) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    require(
        a.ndim == 1 and a.shape == b.shape,
        f"{a.shape} values against {b.shape}: a paired comparison needs one value per seed on both sides",
    )
    return a, b
