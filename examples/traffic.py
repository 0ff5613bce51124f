"""Three signals of Cologne, from a table of logs to a team that is tuned in the field: docs/traffic.md tells the story.

    pip install 'marline[traffic,data,export]'
    python examples/traffic.py runs/cologne

SUMO stands in for the town. It runs in a process of its own that has no part of marline but the simulator, and loads
the bundles as they went out, each with its own `run_policy.py`. Every step of the campaign is a command, shown as it is
given.
"""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np

import marline
from marline import cli
from marline.envs import Traffic

SECONDS = 3600  # of a day: the rush hour for which there is demand
CQL = ("alpha_cql=0.1", "gamma=0.97", "learning_rate=3e-4")  # its defaults are for games: 1, 0.99 and 1e-4
EXPLORES = 0.1  # how often a signal tried another phase when the logs were made
MAPPING = """
[columns]
episode = "day"
step = "step"

[rows]
continuing = true                      # the hour is cut, and traffic goes on
"""
OF_AGENT = """
[agents.{0}]
observations = [
    "{0}.phase_*", "{0}.green", "{0}.pressure_*", "{0}.approach_*", "{0}.wait_*", "{0}.queue_*", "{0}.speed_*",
]
action_masks = "{0}.allowed_*"
actions = "{0}.chosen"
rewards = "{0}.reward"
"""


def day(task, environment, seed, choose):
    """Drive through one rush hour; what `choose` is told is a step as `run_policy.py` reads it.

    Returns:
        How it went: the mean return of the signals, and the seconds that a vehicle lost.
    """
    now, returned = environment.reset(seed=seed), 0.0
    outcome = {agent: {} for agent in task.agents}
    for step in range(task.horizon):
        actions = choose(told(now, outcome))
        now = environment.step(actions)
        returned += np.mean(list(now.rewards.values()))
        ends = {"terminal": False, "timeout": step == task.horizon - 1}
        outcome = {agent: {"reward": now.rewards[agent], **ends} for agent in task.agents}
    choose(told(now, outcome))  # the step that ends the day: its log is written
    return {"return": float(returned), "delay": environment.delay()[1]}


def told(now, outcome):
    return {
        agent: {"observation": seen.tolist(), "action_mask": now.action_masks[agent].tolist(), **outcome[agent]}
        for agent, seen in now.observations.items()
    }


def answers(team):
    """From told steps to actions, for a team of policies in Python."""

    def choose(steps):
        return {
            agent: team[agent](np.array([step["observation"]], np.float32), np.array([step["action_mask"]]))[0]
            for agent, step in steps.items()
        }

    return choose


def field(bundles, logs, first, days, seconds):
    """The town; run as `python traffic.py field BUNDLES LOGS FIRST_DAY DAYS SECONDS`. Prints how each day went."""
    task = Traffic(seconds=seconds)
    controllers = {}
    for agent in task.agents:
        its_own = runpy.run_path(str(bundles / agent / "run_policy.py"))
        controllers[agent] = its_own["Agent"](logs / agent, bundles / agent)
    environment = task.make()
    for number in range(first, first + days):
        how = day(
            task,
            environment,
            number,
            lambda steps: {agent: controllers[agent].step(step).get("action") for agent, step in steps.items()},
        )
        print(json.dumps(how), flush=True)
    environment.close()


def in_the_field(bundles, logs, first, days, seconds):
    """How a team does there, day by day, in another process."""
    site = [sys.executable, __file__, "field", *map(str, (bundles, logs, first, days, seconds))]
    printed = subprocess.run(site, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def write_table(path, task, days, seed):
    """What the signals' computers wrote under today's control: fixed-time on some days and actuated on others.

    In one of ten steps a signal tried a phase at random, for logs of one plan tell nothing of another.
    """
    import jax
    import pyarrow
    from pyarrow import parquet

    from marline.policy import Exploring, one_of_teams

    plans = task.conventions()

    def exploring(plan):
        often = jax.numpy.float32(EXPLORES)
        return {agent: Exploring(policy, often, task.specs[agent]) for agent, policy in plans[plan].items()}

    team = one_of_teams({plan: exploring(plan) for plan in ("fixed-time", "actuated")})
    logs = marline.collect(task, team, days * task.horizon, key=jax.random.key(seed))
    columns = {
        "day": np.arange(days * task.horizon) // task.horizon,
        "step": np.arange(days * task.horizon) % task.horizon,
    }
    for agent, log in logs.items():
        names = task.channels[agent].observation_names
        assert log.action_masks is not None
        columns |= {f"{agent}.{name}": log.observations[:, i] for i, name in enumerate(names)}
        columns |= {f"{agent}.allowed_{i}": column for i, column in enumerate(log.action_masks.T)}
        columns |= {f"{agent}.chosen": log.actions, f"{agent}.reward": log.rewards}
    parquet.write_table(pyarrow.table(columns), path)


def command(*arguments):
    """Give a command of marline's, as in a shell."""
    print("\n$ marline", *arguments, flush=True)
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as done:
        assert not done.code, done.code


def main(
    folder,
    *,
    days=16,
    deployments=2,
    field_days=3,
    evaluation_days=6,
    offline_updates=10_000,
    updates=2000,
    hidden=(64, 64),
    seconds=SECONDS,
):
    folder.mkdir(parents=True, exist_ok=True)
    task = Traffic(seconds=seconds)
    table, mapping, logs, run = (folder / name for name in ("signals.parquet", "import.toml", "logs", "run"))
    if not table.exists():
        print(f"{days} days of logs under today's control ...", flush=True)
        write_table(table, task, days, seed=1)
    mapping.write_text(MAPPING + "".join(OF_AGENT.format(agent) for agent in task.agents), "utf-8")

    command("data", "import", table, "--mapping", mapping, "--out", logs)
    command("data", "check", logs)
    command(
        *(
            "train",
            logs,
            "--run",
            run,
            "--algorithm",
            "cql",
            "--sampler",
            "otc-value",
            "--algorithm-option",
            *CQL,
            "--hidden",
            *hidden,
        ),
        *("--offline-updates", offline_updates, "--updates", updates),
        *("--deployments", deployments, "--rows-per-deployment", field_days * task.horizon),
    )
    went_out = []
    for number in range(1, deployments + 1):
        bundles, back = folder / f"sent-{number}", folder / f"came-back-{number}"
        command("export", run, "--out", bundles)
        went_out.append(bundles)
        print(f"\n{field_days} days in the field ...", flush=True)
        for how in in_the_field(bundles, back, 1000 * number, field_days, seconds):
            print(f"  return {how['return']:.1f}, {how['delay']:.1f} s lost by a vehicle", flush=True)
        command("ingest", run, back)
        command("tune", run)
        command("status", run)
    command("export", run, "--out", folder / "sent-last")
    went_out.append(folder / "sent-last")
    command("report", run)
    return compare(folder, task, went_out, evaluation_days, seconds)


def compare(folder, task, went_out, days, seconds):
    """Every control on the same days, none of which anybody has seen; and what teams gain over those of today."""
    from marline.policy import NumpyPolicy
    from marline.statistics.intervals import mean_interval, paired_difference

    results, first, today = {}, 100_000, task.conventions()
    environment = task.make()
    for name, team in today.items():
        choose = answers({agent: NumpyPolicy(policy) for agent, policy in team.items()})
        results[name] = [day(task, environment, first + number, choose) for number in range(days)]
    environment.close()
    for number, bundles in enumerate(went_out):
        name = f"tuned {number} times" if number else "learned offline"
        results[name] = in_the_field(bundles, folder / "evaluation" / str(number), first, days, seconds)
    print(f"\nSeconds lost by a vehicle over {days} new days, with 95 % intervals:")
    lost = {name: [hour["delay"] for hour in hours] for name, hours in results.items()}
    for name, delays in lost.items():
        low, high = mean_interval(delays)
        print(f"{name:16} {np.mean(delays):6.1f} [{low:.1f}, {high:.1f}]")
        for other in today if name not in today else ():
            gain = paired_difference(delays, lost[other])
            print(f"  to {other:14} {gain.mean:+5.1f} [{gain.low:+.1f}, {gain.high:+.1f}]")
    rows = [
        f"{name},{first + number},{hour['return']:.3f},{hour['delay']:.3f}"
        for name, hours in results.items()
        for number, hour in enumerate(hours)
    ]
    (folder / "results.csv").write_text("\n".join(["control,day,return,delay", *rows, ""]), "utf-8")
    return results


if __name__ == "__main__":
    if sys.argv[1:2] == ["field"]:
        field(Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:]))
    else:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/cologne"))
