"""What `marline data make` does; imported only when it runs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from marline.behaviour_policy.battles import read_battle_team, shipped_battle_team
from marline.behaviour_policy.folder import first_reaching, policy_folder, read_policy, read_steps, train
from marline.behaviour_policy.team import EXPERT_RETURNS, SHARES, share_out, shipped_policy, shipped_teams
from marline.behaviour_policy.training import Evaluation, Training
from marline.cli.options.data import Make
from marline.data import dataset
from marline.data.checkpoints import read_manifest
from marline.data.dataset import Dataset
from marline.data.summary import episodes
from marline.display.console import resumable, say
from marline.display.shell import command
from marline.envs import TASKS, Conventional, MultiAgentMujoco, Simulator, Smax, Task, Traffic, World, make_task
from marline.errors import ConfigError, require, require_name
from marline.policy import RandomPolicy, of_mixed_skill, one_of_teams
from marline.rollouts.collection import collect, collect_in_turns
from marline.rollouts.rollout import Policies
from marline.types import AgentID

SIZE = 1_000_000
EXPLORES = 0.5  # how often an agent acts at random in its turn


class Made(NamedTuple):
    """Logs by agent, and where they come from."""

    logs: dict[AgentID, Dataset]
    provenance: dict[str, object]


def make(options: Make) -> int:
    """`marline data make`."""
    task_name, slash, kind = options.name.rpartition("/")
    require(bool(slash), f"{options.name!r} is not TASK/KIND; write for example cooperative-navigation-4/random")
    require(options.size is None or options.size >= 1, f"--size is {options.size}, but must be at least 1")
    require(0 <= options.seed < 2**31, f"--seed is {options.seed}, but must lie in [0, 2^31)")
    require(options.max_steps >= 1, f"--max-steps is {options.max_steps}, but must be at least 1")
    task = make_task(task_name)
    teams = {} if kind in KINDS else past_teams(task)
    require_name(kind, [*KINDS, *teams], "kind of data")
    taken = options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir()))
    require(not taken, f"{options.out} exists already; choose another --out, or move it")
    if isinstance(task, Simulator):  # so that what is missing is missed before a folder is made
        task.make().close()
    made = KINDS[kind](task, options) if kind in KINDS else _team(task, kind, teams[kind], options)
    returns = episodes(next(iter(made.logs.values()))).returns
    provenance = {
        "task": task_name,
        **made.provenance,
        "seed": options.seed,
        "returns": {"episodes": len(returns), "mean": returns.mean(), "std": returns.std()},
        "versions": _versions(task),
    }
    dataset.save(options.out, made.logs, provenance)
    num_rows = len(next(iter(made.logs.values())))
    say(f"{options.name}: {len(made.logs)} agents, {num_rows:,} transitions of each")
    say(f"  returns: {returns.mean():.1f} on average, standard deviation {returns.std():.1f}")
    say(f"  dataset: {options.out}")
    trusted = ("--trust",) if options.trust else ()
    following = command("run", "--task", task_name, *trusted, "--data", options.out, "--run", "runs/first")
    say(f"  next:    {following}")
    say("           at full size that may take hours; minutes with --hidden 32 32 --offline-updates 2000 --updates 200")
    return 0


def _random(task: Task, options: Make) -> Made:
    policies = {agent: RandomPolicy(spec) for agent, spec in task.specs.items()}
    return Made(_play(task, policies, options), {"policy": "uniform random"})


def _medium(task: Task, options: Make) -> Made:
    return _learned(task, options, "medium")


def _expert(task: Task, options: Make) -> Made:
    return _learned(task, options, "expert")


def _mixed(task: Task, options: Make) -> Made:
    policies, known = _skilled(task, options)
    logs = _play(task, of_mixed_skill(policies, task.specs), options)
    mixed = {"kind": "mixed", "random": "every agent in every episode with a probability of its own, uniform in [0, 1]"}
    return Made(logs, {"policy": mixed | {"else": known}})


def _skilled(task: Task, options: Make) -> tuple[Policies, dict[str, object]]:
    """A team that is good at a task, and what it is."""
    if not isinstance(task, Conventional):
        return _learned_policies(task, options, "medium", "mixed")
    convention, policies = next(iter(task.conventions().items()))
    return policies, {"kind": "scripted", "convention": convention}


def _conventions(task: Task, options: Make) -> Made:
    teams = _require_past_teams(task, "conventions")
    policy = {"kind": "conventions", "teams": list(teams), "episodes": "each of one team, all equally likely"}
    return Made(_play(task, one_of_teams(teams), options), {"policy": policy})


def _team(task: Task, convention: str, policies: Policies, options: Make) -> Made:
    kind = "scripted" if isinstance(task, Conventional) else "taught"
    return Made(_play(task, policies, options), {"policy": {"kind": kind, "convention": convention}})


def _in_turns(task: Task, options: Make) -> Made:
    """Logs in which the others are one past team, whatever an agent does: each logs while it alone explores."""
    convention, policies = next(iter(_require_past_teams(task, "in-turns").items()))
    size = SIZE if options.size is None else options.size
    logs = collect_in_turns(task, policies, size, epsilon=EXPLORES, key=jax.random.key(options.seed))
    explores = f"who logs, in {EXPLORES:.0%} of the steps; of the others nobody"
    return Made(logs, {"policy": {"kind": "in-turns", "convention": convention, "at random": explores}})


def past_teams(task: Task) -> Mapping[str, Policies]:
    """Policies of each past team, by the name of its convention; none if there are no teams that differ."""
    if isinstance(task, MultiAgentMujoco):
        return {
            name: share_out(read_policy(folder, Training(task.robot, task.version)), task.specs)
            for name, folder in shipped_teams(task.robot, task.version).items()
        }
    return task.conventions() if isinstance(task, Conventional) else {}


def _require_past_teams(task: Task, kind: str) -> Mapping[str, Policies]:
    if not (teams := past_teams(task)):
        raise ConfigError(
            f"{kind} data is played by past teams of a task that has some: "
            + ", ".join(name for name, known in TASKS.items() if _has_past_teams(known))
        )
    return teams


def _has_past_teams(task: Task) -> bool:
    if isinstance(task, MultiAgentMujoco):
        return bool(shipped_teams(task.robot, task.version))
    return isinstance(task, Conventional)


def _learned(task: Task, options: Make, kind: str) -> Made:
    policies, policy = _learned_policies(task, options, kind, kind)
    return Made(_play(task, policies, options), {"policy": policy})


def _learned_policies(task: Task, options: Make, kind: str, wanted: str) -> tuple[Policies, dict[str, object]]:
    """A team that was taught up to the return of a kind of data, for the data that are wanted, and what it is."""
    if isinstance(task, Smax) and (shipped := shipped_battle_team(task, kind)) is not None:
        about = read_manifest(shipped)
        known = {key: about[key] for key in ("training", "evaluation")}
        return read_battle_team(shipped, task), {"kind": f"{kind}-like", **known}
    robot = _robot(task, wanted)
    training = Training(robot.robot, robot.version, options.training_seed)
    no_training = options.training is None
    folder = shipped_policy(robot.robot, robot.version, kind, options.training_seed) if no_training else None
    if folder is None:
        trained, number = _train(training, kind, options)
        folder = policy_folder(trained, number)
    manifest = read_manifest(folder)
    evaluation = manifest["evaluation"]
    say(f"the policy returned {evaluation['mean_return']:.0f} after {evaluation['num_steps']:,} steps of learning")
    policy = {"kind": f"{kind}-like", "training": manifest["training"], "evaluation": evaluation}
    return share_out(read_policy(folder, training), task.specs), policy


def _medium_replay(task: Task, options: Make) -> Made:
    robot = _robot(task, "medium-replay")
    training = Training(robot.robot, robot.version, options.training_seed)
    folder, number = _train(training, "medium", options)
    played = read_steps(folder, number + 1)
    num_rows = len(played.ends)
    size = num_rows if options.size is None else options.size
    if size > num_rows:
        say(f"note: only {num_rows:,} steps were played until then; these are all of them")
    latest = jax.tree.map(lambda column: column[-size:], played)
    logs, first_joint = {}, 0
    for agent, spec in task.specs.items():
        logs[agent] = latest.log(spec, first_joint)
        first_joint += spec.action_size
    evaluation = read_manifest(policy_folder(folder, number))["evaluation"]
    policy = {"kind": "medium-replay-like", "training": dataclasses.asdict(training), "evaluation": evaluation}
    return Made(logs, {"policy": policy})


KINDS: Mapping[str, Callable[[Task, Make], Made]] = {
    "random": _random,
    "medium": _medium,
    "medium-replay": _medium_replay,
    "expert": _expert,
    "mixed": _mixed,
    "conventions": _conventions,
    "in-turns": _in_turns,
}


def _robot(task: Task, kind: str) -> MultiAgentMujoco:
    if not isinstance(task, MultiAgentMujoco):
        others = ", mixed, conventions and in-turns" if isinstance(task, Conventional) else ""
        raise ConfigError(
            f"{kind} data is made of the robots of MuJoCo, for which an expert's return is known; of this task there "
            f"is random{_of_battles(task)}{others}"
        )
    return task


def _of_battles(task: Task) -> str:
    return ", medium and mixed" if isinstance(task, Smax) and shipped_battle_team(task, "medium") is not None else ""


def _train(training: Training, kind: str, options: Make) -> tuple[Path, int]:
    """Learn up to the return of a kind of data; the folder, and the number of the evaluation that reached it."""
    folder = options.training or options.out.with_name(f"{options.out.name}.training")
    target = SHARES[kind] * EXPERT_RETURNS[training.robot]
    with resumable("the same command, from the last evaluation"):
        evaluations = _show(train(folder, training, target, max_steps=options.max_steps), folder, target, options)
    number = first_reaching(evaluations, target)
    assert number is not None  # else it would not have ended
    return folder, number


def _show(
    training: Iterable[tuple[Evaluation, ...]], folder: Path, target: float, options: Make
) -> tuple[Evaluation, ...]:
    """Say how a training goes, and give its evaluations when it is over."""
    began = time.monotonic()
    num_before: int | None = None
    evaluations: tuple[Evaluation, ...] = ()
    for evaluations in training:
        num_steps, _, mean_return = evaluations[-1] if evaluations else (0, 0, float("nan"))
        if num_before is None:
            num_before = num_steps
            doing = f"going on after {num_steps:,} steps" if num_steps else "learning"
            if first_reaching(evaluations, target) is None:
                say(f"{doing} in {folder}, until a return of {target:.0f}; a kill does no harm")
            continue
        rate = (num_steps - num_before) / (time.monotonic() - began)
        left = (options.max_steps - num_steps) / rate / 60
        say(
            f"{num_steps:,} steps: return {mean_return:.0f} of {target:.0f}, "
            f"{rate:.0f} steps/s, at most {left:.0f} min to {options.max_steps:,}"
        )
    return evaluations


def _play(task: Task, policies: Policies, options: Make) -> dict[AgentID, Dataset]:
    size = SIZE if options.size is None else options.size
    began = time.monotonic()

    def progress(rows: int) -> None:
        if not isinstance(task, World) and rows < size:
            left = (time.monotonic() - began) / rows * (size - rows)
            say(f"{rows:,} of {size:,} steps played, {left:.0f} s left")

    return collect(task, policies, size, key=jax.random.key(options.seed), progress=progress)


def _versions(task: Task) -> dict[str, str]:
    packages = ["marline", "jax"]
    packages += ["gymnasium", "mujoco"] if isinstance(task, MultiAgentMujoco) else []
    packages += ["jaxmarl"] if isinstance(task, Smax) else []
    packages += ["libsumo", "sumo-rl"] if isinstance(task, Traffic) else []
    return {package: importlib.metadata.version(package) for package in packages}
