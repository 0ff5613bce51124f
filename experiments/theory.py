"""Theorem 1 and Eq. (2) of the OTC paper on small worlds: how far laws are from today's, and how wrong values then are.

    python experiments/theory.py                      # results/theory.csv, .json and .svg; seconds
    python experiments/theory.py --quick --out DIR    # a few worlds, to see that it works

A world is a random MDP of 5 states and 3 actions with rewards in [0, 1]. Today's law is one random law; the logs' is a
mixture of it and of another one, which has `mismatch` of it. Of each way to replay, the law that its rows follow in the
limit of many draws is computed, then its distance to today's law and the error of the optimal values under it:

- uniform: all rows, of which one in 101 is of today, as after one deployment;
- otc: Eq. (2) in states that are told apart exactly: what a row tells is accepted by whether a row of today with the
  same state and action tells the same, by rank with alpha = 1 of 512 candidates;
- two-sided: today's counts over the logs' law, drawn to 1 as ten rows do; it does not ask whether anything changed;
- oracle: the true ratio of both laws.

Today's rows are 1000, drawn evenly over states and actions; all but the oracle see their counts and not their law.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from published import RESULTS, require_apart

from marline.data.provenance import start
from marline.ops.transition_correction import corrected_transition, kl_divergence, optimal_values, value_gap_bound
from marline.report.appearance import COLORS, INK, Look, number
from marline.report.chart import Axis, Chart, Mark
from marline.report.svg import Panel, Row, legend, place, sheet

STATES, ACTIONS, GAMMA = 5, 3, 0.9
TODAY, SHARE, PULL, CANDIDATES = 1000, 1 / 101, 10.0, 512
MISMATCHES = (0.0, 0.25, 0.5, 0.75, 1.0)
WAYS = ("uniform", "otc", "two-sided", "oracle")
COLUMNS = ("world", "mismatch", "way", "distance", "value_error", "bound", "kl")
DRAWN = 30  # worlds in the figure
LOOKS = {
    "uniform": Look(0, "uniform", *INK, "circle", "solid"),
    "otc": Look(1, "OTC, alpha = 1", *COLORS["blue"], "square", "solid"),
    "two-sided": Look(2, "two-sided", *COLORS["green"], "diamond", "solid"),
}


def accepted(share_alike: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """f(0) and f(1): mean chance of a candidate by rank with alpha = 1, where `share_alike` of them are at distance 0.

    Those take the first ranks: a share q of n rows has H(q n) / H(n) of all draws, H being the harmonic numbers.
    """
    harmonic = jnp.cumsum(1.0 / jnp.arange(1, CANDIDATES + 1))
    num = jnp.clip(share_alike * CANDIDATES, 1.0, CANDIDATES - 1.0)
    mass = jnp.interp(num, jnp.arange(1, CANDIDATES + 1), harmonic) / harmonic[-1]
    return mass / num, (1.0 - mass) / (CANDIDATES - num)


def laws(
    logged: Float[Array, "s a s"], today: Float[Array, "s a s"], counts: Float[Array, "s a s"]
) -> dict[str, Float[Array, "s a s"]]:
    """The law that replayed rows follow, by way; counts are those of today's rows."""
    num = counts.sum(axis=-1, keepdims=True)
    seen = counts / jnp.maximum(num, 1.0)
    merged = (1 - SHARE) * logged + SHARE * seen
    near, far = accepted(jnp.mean(jnp.sum(merged * seen, axis=-1)))
    acceptance = jnp.where(jnp.eye(logged.shape[-1], dtype=bool), near, far)
    otc = jax.vmap(jax.vmap(corrected_transition, (0, 0, None)), (0, 0, None))(merged, seen, acceptance)
    two_sided = (counts + PULL * logged) / (num + PULL)  # logged times its weight
    return {"uniform": merged, "otc": otc, "two-sided": two_sided, "oracle": today}


def measure(key: PRNGKeyArray, mismatch: Float[Array, ""]) -> dict[str, Float[Array, " 4"]]:
    """Of one world and each way: distance, error of values, bound and divergence."""
    reward_key, today_key, other_key, count_key = jax.random.split(key, 4)
    reward = jax.random.uniform(reward_key, (STATES, ACTIONS))
    shape = (STATES, ACTIONS)
    today, other = (jax.random.dirichlet(one, jnp.ones(STATES), shape) for one in (today_key, other_key))
    logged = (1 - mismatch) * today + mismatch * other
    rows = jax.random.categorical(count_key, jnp.log(today), shape=(TODAY // (STATES * ACTIONS), *shape))
    counts = jax.nn.one_hot(rows, STATES).sum(axis=0)
    true = optimal_values(reward, today, GAMMA, 400)
    found = {}
    for way, law in laws(logged, today, counts).items():
        distance = jnp.max(jnp.sum(jnp.abs(law - today), axis=-1))
        error = jnp.max(jnp.abs(optimal_values(reward, law, GAMMA, 400) - true))
        divergence = jnp.mean(jax.vmap(jax.vmap(kl_divergence))(today, law))
        found[way] = jnp.stack([distance, error, value_gap_bound(law, today, 1.0, GAMMA), divergence])
    return found


def compute(num_worlds: int) -> list[tuple[object, ...]]:
    """A row of `COLUMNS` for every world, mismatch and way."""
    keys = jax.random.split(jax.random.key(0), num_worlds)
    of_worlds = jax.jit(jax.vmap(measure, in_axes=(0, None)))
    rows = []
    for mismatch in MISMATCHES:
        found = of_worlds(keys, jnp.float32(mismatch))
        for way in WAYS:
            values = np.asarray(found[way])
            rows += [(world, mismatch, way, *(f"{one:.6g}" for one in values[world])) for world in range(num_worlds)]
    return rows


def read(path: Path) -> list[Mapping[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Mean distance and mean error of values by mismatch and way; how often the law came nearer, and values too."""
    header = ["mismatch", "replay", "distance of laws", "error of values", "KL to today", "nearer than uniform"]
    header += ["values less wrong than uniform"]
    lines = []
    for mismatch in dict.fromkeys(row["mismatch"] for row in rows):
        its = {way: _numbers(rows, mismatch, way) for way in WAYS}
        for way in WAYS:
            means = [number(float(its[way][name].mean()), 3) for name in ("distance", "value_error", "kl")]
            better = [
                "" if way == "uniform" else f"{100 * np.mean(its[way][name] < its['uniform'][name]):.0f} %"
                for name in ("kl", "value_error")
            ]
            lines.append([mismatch, way, *means, *better])
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines)]


def bound_sentence(rows: Sequence[Mapping[str, str]]) -> str:
    """How often Theorem 1 held, and how near its bound anything came."""
    errors = np.array([float(row["value_error"]) for row in rows])
    bounds = np.array([float(row["bound"]) for row in rows])
    some = bounds > 0
    held = int(np.sum(errors <= bounds + 1e-5))
    nearest = 100 * float(np.max(errors[some] / bounds[some]))
    return f"it held in {held:,} of {len(rows):,}, and no error came to more than {nearest:.1f} % of it"


def _numbers(rows: Sequence[Mapping[str, str]], mismatch: str, way: str) -> dict[str, np.ndarray]:
    its = [row for row in rows if (row["mismatch"], row["way"]) == (mismatch, way)]
    return {name: np.array([float(row[name]) for row in its]) for name in COLUMNS[3:]}


def draw(rows: Sequence[Mapping[str, str]]) -> str:
    """Error of values against distance of laws, world by world; and the mean divergence, by mismatch."""
    clouds, curves = [], []
    for way, look in LOOKS.items():
        its = [row for row in rows if row["way"] == way and int(row["world"]) < DRAWN]
        x, y = ([float(row[name]) for row in its] for name in ("distance", "value_error"))
        clouds.append(Mark(x, y, "dots", look=look, name=look.label))
        x = [float(mismatch) for mismatch in dict.fromkeys(row["mismatch"] for row in rows)]
        means = [float(_numbers(rows, str(mismatch), way)["kl"].mean()) for mismatch in x]
        curves.append(Mark(x, means, look=look, name=look.label))
    along = np.linspace(0.02, max(max(mark.x) for mark in clouds), 60).tolist()
    bound = Look(3, "bound of Theorem 1", *COLORS["vermillion"], "circle", "solid")
    steepness = GAMMA / (1 - GAMMA) ** 2
    clouds.append(Mark(along, [steepness * one for one in along], look=bound, name=bound.label))
    shown = {**LOOKS, "bound": bound}
    panels = [
        Panel("Error of values, by distance of laws", Chart("", "", clouds, Axis("distance of laws"), Axis(log=True))),
        Panel("KL of today's law to what is replayed", Chart("", "", curves, Axis("mismatch"), Axis(from_zero=True))),
    ]
    body, top = legend([(look, look.label) for look in shown.values()])
    return sheet("Theorem 1 and Eq. (2)", [*body, *place(Row(panels, 2, 280.0), top)], top + 292, shown)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.quick:
        require_apart(parser, options.out, "--out")
    rows = compute(2 if options.quick else options.worlds)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "theory.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    begun = {key: value for key, value in start().items() if value}
    begun["command"] = "theory.py"
    (options.out / "theory.json").write_text(json.dumps(begun, indent=1) + "\n", "utf-8")
    written = read(options.out / "theory.csv")
    (options.out / "theory.svg").write_text(draw(written), "utf-8")
    print(*table(written), f"Theorem 1: {bound_sentence(written)}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
