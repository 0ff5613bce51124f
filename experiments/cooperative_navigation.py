"""Cooperative Navigation, N = 4: every sampler and its control, as in the paper's Figs. 7 and 8.

    python experiments/cooperative_navigation.py              # everything, hours on two cores
    python experiments/cooperative_navigation.py small-moving # one part

Each part is a run directory under runs/, resumed where it was left, and ends as a table, a CSV
file and a figure under results/.
"""

import sys
from pathlib import Path

from marline import cli, commands

EVERY_SAMPLER = (
    "uniform",
    "offline-only",
    "online-only",
    "otc-value",
    "otc-value-literal",
    "otc-embedding",
    "otc-two-stage",
    "online-matched",
)
# With TD3+BC's own alpha_bc = 2.5 cloning pins the actions of random data near 0; at 100 the policy moves.
PARTS = {
    "small-moving": {"hidden": (64, 64), "alpha_bc": 100, "sampler": EVERY_SAMPLER, "seeds": 5},
    "small-official": {"hidden": (64, 64), "alpha_bc": 2.5, "sampler": EVERY_SAMPLER, "seeds": 5},
    "paper-size-official": {
        "hidden": (256, 256),
        "alpha_bc": 2.5,
        "sampler": ("uniform", "otc-value", "otc-two-stage", "online-matched"),
        "seeds": 3,
    },
    "paper-size-moving": {
        "hidden": (256, 256),
        "alpha_bc": 100,
        "sampler": ("uniform", "otc-value", "otc-two-stage", "online-matched"),
        "seeds": 3,
    },
}


def main(parts: list[str]) -> None:
    for part in parts or PARTS:
        settings = PARTS[part]
        name = f"cooperative-navigation-4-{part}"
        run = Path("runs") / name
        commands.run(
            cli.Run(
                run=run,
                task="cooperative-navigation-4",
                algorithm=("td3-bc",),
                algorithm_option=(f"alpha_bc={settings['alpha_bc']}",),
                sampler=settings["sampler"],
                seeds=settings["seeds"],
                hidden=settings["hidden"],
                dataset_size=1_000_000,
                offline_updates=100_000,
                deployments=10,
                updates=2000,
            )
        )
        results = Path("results")
        results.mkdir(exist_ok=True)
        commands.report(
            cli.Report(
                runs=(run,),
                csv=results / f"{name}.csv",
                summary=results / f"{name}.md",
                figure=results / f"{name}.svg",
            )
        )


if __name__ == "__main__":
    main(sys.argv[1:])
