"""Cooperative Navigation, N = 4: every sampler and its controls, as in the paper's Figs. 7 and 8.

    python experiments/cooperative_navigation.py              # everything, hours on two cores
    python experiments/cooperative_navigation.py small-moving # one part
    python experiments/cooperative_navigation.py --quick --runs /tmp/runs --results /tmp/results   # whether it works

Each part is a run directory, resumed where it was left, and ends as a table, a CSV file and a figure.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from published import RESULTS, require_apart

from marline import Study
from marline.errors import require_name
from marline.report import write_csv, write_figure, write_summary
from marline.runtime import set_up_jax

CONTROLS = ("shuffled", "online-matched")
FOUR = ("uniform", "otc-value", "otc-two-stage", *CONTROLS)
EVERY = ("uniform", "offline-only", "online-only", "otc-value", "otc-value-literal", "otc-embedding", "otc-two-stage")
# With TD3+BC's own alpha_bc = 2.5 cloning pins the actions of random data near 0; at 100 the policy moves.
PARTS: dict[str, dict[str, Any]] = {
    "small-moving": {"hidden": (64, 64), "alpha_bc": 100.0, "samplers": (*EVERY, *CONTROLS), "seeds": 5},
    "small-official": {"hidden": (64, 64), "alpha_bc": 2.5, "samplers": (*EVERY, *CONTROLS), "seeds": 5},
    "paper-size-official": {"hidden": (256, 256), "alpha_bc": 2.5, "samplers": FOUR, "seeds": 3},
    "paper-size-moving": {"hidden": (256, 256), "alpha_bc": 100.0, "samplers": FOUR, "seeds": 3},
}
SIZE: dict[str, Any] = {"dataset_size": 1_000_000, "offline_updates": 100_000, "deployments": 10, "updates": 2000}
QUICK: dict[str, Any] = {
    "dataset_size": 400,
    "offline_updates": 4,
    "deployments": 1,
    "updates": 4,
    "evaluation_episodes": 2,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them unless given")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.quick:
        require_apart(parser, options.results, "--results")
    for part in options.parts:
        require_name(part, PARTS, "part")
    set_up_jax()
    for part in options.parts or PARTS:
        settings, name = PARTS[part], f"cooperative-navigation-4-{part}"
        smaller = {"samplers": FOUR[:2], "seeds": 2, "hidden": (4,)} if options.quick else {}
        study = Study.create(
            options.runs / name,
            task="cooperative-navigation-4",
            algorithm="td3-bc",
            algorithm_options={"alpha_bc": settings["alpha_bc"]},
            **{key: settings[key] for key in ("samplers", "seeds", "hidden")} | smaller,
            **(QUICK if options.quick else SIZE),
        )
        study.run()
        study.report()
        write_csv([study.folder], options.results / f"{name}.csv")
        write_summary([study.folder], options.results / f"{name}.md")
        write_figure([study.folder], options.results / f"{name}.svg")
        print(f"{part}: {options.results / name}.csv, .md, .svg")


if __name__ == "__main__":
    main()
