"""A training on disk: killed at any moment, it goes on from the last evaluation and ends as if nothing had been.

training.json      what is trained
000000/steps/      what was played up to the first evaluation, then up to the second, ...: dataset folders
000000/policy/     the policy that was evaluated
learner/           networks and optimizers at the last evaluation, and the returns of all of them
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Generator, Iterator
from pathlib import Path

import jax
import numpy as np

from marline.behaviour_policy.sac import State
from marline.behaviour_policy.training import JOINT, Evaluation, Lesson, Played, Training, teach
from marline.data import dataset
from marline.data.checkpoints import load_checkpoint, read_manifest, save_checkpoint
from marline.data.files import LARGEST_CONFIGURATION, atomic_json, read_regular, to_json
from marline.data.locking import HeldError, locked
from marline.data.plain import require_plain_folder
from marline.data.scratch import is_scratch
from marline.errors import ConfigError, MarlineError
from marline.nn.actors import SquashedGaussianActor


def train(
    folder: Path, training: Training, target_return: float, *, max_steps: int
) -> Generator[tuple[Evaluation, ...], None, None]:
    """Begin a training, or go on with it, until an evaluation reaches the return.

    Yields:
        All evaluations so far: first those that were found on disk, then after each new one, when it is on disk.

    Raises:
        ConfigError: the folder holds something else, or another process trains there.
        MarlineError: the return was not reached within `max_steps`, or a network is no longer finite.
        CorruptionError: what was written is damaged.
    """
    with _only_writer(folder, training):
        evaluations = read_evaluations(folder)
        yield evaluations
        if first_reaching(evaluations, target_return) is not None:
            return
        for lesson in teach(training, max_steps, _last(folder, training)):
            _require_finite(folder, lesson)
            _keep(folder, training, lesson)
            evaluations = lesson.evaluations
            yield evaluations
            if evaluations[-1].mean_return >= target_return:
                return
    best = max((evaluation.mean_return for evaluation in evaluations), default=None)
    raise MarlineError(
        f"{folder}: {training.robot} did not reach a return of {target_return:.0f} in {max_steps:,} steps, "
        f"{'which end before the first evaluation' if best is None else f'the best is {best:.0f}'}; "
        "go on with more --max-steps, or try another --training-seed in another folder"
    )


def first_reaching(evaluations: tuple[Evaluation, ...], target_return: float) -> int | None:
    """Number of the first evaluation of at least that return."""
    for number, evaluation in enumerate(evaluations):
        if evaluation.mean_return >= target_return:
            return number
    return None


def read_steps(folder: Path, num_evaluations: int) -> Played:
    """All that was played up to an evaluation, in order."""
    parts = []
    for number in range(num_evaluations):
        log = dataset.load(_lesson(folder, number) / "steps")[JOINT]
        parts.append(Played(log.transition(), log.terminals | log.timeouts))
    return Played.join(parts)


def policy_folder(folder: Path, number: int) -> Path:
    """Where the policy of an evaluation is."""
    return _lesson(folder, number) / "policy"


def read_policy(folder: Path, training: Training) -> SquashedGaussianActor:
    """The policy of an evaluation, from its folder."""
    trees, _ = load_checkpoint(folder, {"actor": _outline(training).actor.model})
    return trees["actor"]


def _keep(folder: Path, training: Training, lesson: Lesson) -> None:
    """Write what is new, and the learner last: until it is there, the rest does not count."""
    number = len(lesson.evaluations) - 1
    provenance = {"training": dataclasses.asdict(training), "evaluation": lesson.evaluations[-1]._asdict()}
    steps = {JOINT: lesson.played.log(training.spec)}
    dataset.save(_lesson(folder, number) / "steps", steps, provenance, replace=True)
    save_checkpoint(policy_folder(folder, number), {"actor": lesson.learner.actor.model}, provenance)
    save_checkpoint(folder / "learner", {"learner": lesson.learner}, {"evaluations": lesson.evaluations})


def _last(folder: Path, training: Training) -> Lesson | None:
    """The lesson to go on from, with all that was played."""
    evaluations = read_evaluations(folder)
    if not evaluations:
        return None
    trees, _ = load_checkpoint(folder / "learner", {"learner": _outline(training)})
    return Lesson(trees["learner"], evaluations, read_steps(folder, len(evaluations)))


def read_evaluations(folder: Path) -> tuple[Evaluation, ...]:
    """All evaluations of a training, none if it has not come so far."""
    if not (folder / "learner").exists():
        return ()
    return tuple(Evaluation(*evaluation) for evaluation in read_manifest(folder / "learner")["evaluations"])


def _outline(training: Training) -> State:
    """Shapes and types of a learner."""
    return jax.eval_shape(lambda key: training.sac.init(training.spec, key=key), jax.random.key(0))


def _require_finite(folder: Path, lesson: Lesson) -> None:
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(lesson.learner)):
        raise MarlineError(
            f"{folder}: a network is not finite after {lesson.evaluations[-1].num_steps:,} steps, which were not kept; "
            "try another --training-seed in another folder"
        )


def _lesson(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}"


@contextlib.contextmanager
def _only_writer(folder: Path, training: Training) -> Iterator[None]:
    """The folder of this training, made if it is not there, and nobody else in it."""
    description = folder / "training.json"
    if (
        folder.exists()
        and not description.exists()
        and not all(path.name == "lock" or is_scratch(path) for path in folder.iterdir())
    ):
        raise ConfigError(f"{folder} is not empty and holds no training; choose another --training")
    folder.mkdir(parents=True, exist_ok=True)
    require_plain_folder(folder)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder / "lock"))
        except HeldError:
            raise ConfigError(
                f"{folder}: another process trains there; wait for it, or choose another --training"
            ) from None
        if not description.exists():
            atomic_json(description, dataclasses.asdict(training))
        found = json.loads(read_regular(description, LARGEST_CONFIGURATION))
        wanted = json.loads(to_json(dataclasses.asdict(training)))
        different = [
            f"{key} {found.get(key)} there, {value} here" for key, value in wanted.items() if found.get(key) != value
        ]
        if different:
            raise ConfigError(f"{folder} holds another training ({'; '.join(different)}); choose another --training")
        yield
