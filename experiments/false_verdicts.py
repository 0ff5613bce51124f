"""How often noise is called a result: paired differences whose mean is 0, judged by each rule.

    python experiments/false_verdicts.py          # about two minutes on one core
    python experiments/false_verdicts.py --quick  # few draws

The skewed law is an exponential less its mean: most seeds lose a little, a few gain much. The last column asks the
other way round: how often means that differ by the whole margin are called equal.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable

import numpy as np

from marline.statistics.intervals import equality, paired_difference, sign_flip_p

SEEDS = (3, 5, 10, 20)
NUM_REPLICATES = 2000
MARGIN = 1.0  # in standard deviations of a seed's difference
Law = Callable[[np.random.Generator, int], np.ndarray]
LAWS: dict[str, Law] = {
    "normal": lambda random, num: random.standard_normal(num),
    "skewed": lambda random, num: random.standard_exponential(num) - 1,
}
COLUMNS = ("percentile bootstrap", "Student's t", "verdict", "sign flips, p <= .05", "called equal, at the margin")


def bootstrap_excludes_zero(differences: np.ndarray, random: np.random.Generator) -> bool:
    """The 95 % percentile bootstrap interval of the mean, which reports had before."""
    drawn = differences[random.integers(0, differences.size, (NUM_REPLICATES, differences.size))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return bool(low > 0 or high < 0)


def rates(law: Law, num_seeds: int, num_draws: int, seed: int = 0) -> tuple[float, ...]:
    """How often each of `COLUMNS` speaks, in order."""
    random = np.random.default_rng(seed)
    counts = np.zeros(len(COLUMNS))
    for _ in range(num_draws):
        noise = law(random, num_seeds)
        difference = paired_difference(noise, np.zeros(num_seeds))
        counts += (
            bootstrap_excludes_zero(noise, random),
            difference.sign != 0,
            difference.verdict != 0,
            sign_flip_p(noise) <= 0.05,
            equality(noise + MARGIN, MARGIN).holds,
        )
    return tuple((counts / num_draws).tolist())


def table(num_draws: int) -> list[str]:
    """Lines of Markdown; how sure each rate is stands below them."""
    lines = ["| noise | seeds | " + " | ".join(COLUMNS) + " |", "|" + "---|" * (len(COLUMNS) + 2)]
    for name, law in LAWS.items():
        for num_seeds in SEEDS:
            cells = [f"{rate:.3f}" for rate in rates(law, num_seeds, num_draws)]
            lines.append(f"| {name} | {num_seeds} | {' | '.join(cells)} |")
    error = math.sqrt(0.05 * 0.95 / num_draws)
    return [*lines, "", f"{num_draws:,} draws; the standard error of a rate of .05 is {error:.4f}."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few draws, to see that it runs")
    args = parser.parse_args()
    print(*table(20 if args.quick else 2_000), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
