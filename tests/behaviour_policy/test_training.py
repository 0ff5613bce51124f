"""A robot that is taught: what is played and learned when, goes on after a kill, and is shared out among agents."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.behaviour_policy.folder import policy_folder, read_evaluations, read_policy, read_steps, train
from marline.behaviour_policy.sac import SAC
from marline.behaviour_policy.team import share_out
from marline.behaviour_policy.training import Lesson, Played, Training, teach
from marline.data.locking import locked
from marline.errors import ConfigError, CorruptionError, MarlineError
from marline.nn.actors import SquashedGaussianActor
from marline.types import Spec

pytest.importorskip("gymnasium", reason="MuJoCo tasks need: pip install 'marline[mujoco]'")
pytest.importorskip("mujoco", reason="MuJoCo tasks need: pip install 'marline[mujoco]'")

# episodes of a hopper's first steps: some are cut by the horizon, others end with a fall
TINY = Training(
    "Hopper", sac=SAC(hidden=(8,)), warm_up=40, batch_size=8, evaluate_every=60, evaluation_episodes=2, horizon=25
)
NEVER = 1e9


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    """Three evaluations without an interruption."""
    return list(itertools.islice(teach(TINY, 400), 3))


def number_of_updates(lesson: Lesson) -> int:
    return int(jax.tree.leaves(lesson.learner.critic.opt_state)[0])


@pytest.mark.slow
def test_one_update_per_step_after_the_warm_up(lessons: list[Lesson]) -> None:
    first = lessons[0]
    lengths = np.diff(np.flatnonzero(first.played.ends), prepend=-1)
    starts = np.cumsum(lengths) - lengths
    warm_up = starts[starts >= TINY.warm_up][0]  # the episode that is running is played to its end
    for lesson in lessons:
        assert number_of_updates(lesson) == lesson.evaluations[-1].num_steps - warm_up


def test_all_that_was_played_is_there_in_its_order(lessons: list[Lesson]) -> None:
    played = [lesson.played for lesson in lessons]
    steps = np.cumsum([len(part.ends) for part in played])
    assert [evaluation.num_steps for evaluation in lessons[-1].evaluations] == steps.tolist()
    assert [evaluation.num_episodes for evaluation in lessons[-1].evaluations] == np.cumsum(
        [part.ends.sum() for part in played]
    ).tolist()
    for number, evaluated in enumerate(steps, start=1):  # at the end of the first episode from there on
        assert 60 * number <= evaluated < 60 * number + TINY.horizon
    log = played[0].log(TINY.spec)
    goes_on = ~played[0].ends[:-1]
    np.testing.assert_array_equal(log.next_observations[:-1][goes_on], log.observations[1:][goes_on])
    np.testing.assert_array_equal(log.terminals | log.timeouts, played[0].ends)
    last_joint = played[0].log(Spec(11, 1), 2)
    np.testing.assert_array_equal(last_joint.actions, log.actions[:, 2:])


def test_a_training_goes_on_where_it_was_killed(tmp_path: Path, lessons: list[Lesson]) -> None:
    killed = train(tmp_path, TINY, NEVER, max_steps=400)
    assert next(killed) == () and len(next(killed)) == 1
    killed.close()
    # what a kill leaves that came between the steps and the learner, which is written last
    (tmp_path / "000001" / "steps").mkdir(parents=True)
    (tmp_path / "000001" / "steps" / "agent_0.h5").write_bytes(b"half")

    going_on = train(tmp_path, TINY, NEVER, max_steps=400)
    assert next(going_on) == lessons[0].evaluations
    assert next(going_on) == lessons[1].evaluations and next(going_on) == lessons[2].evaluations
    going_on.close()
    assert read_evaluations(tmp_path) == lessons[2].evaluations
    for number, lesson in enumerate(lessons):
        found = read_policy(policy_folder(tmp_path, number), TINY)
        jax.tree.map(np.testing.assert_array_equal, found, lesson.learner.actor.model)
    everything = Played.join([lesson.played for lesson in lessons])
    jax.tree.map(np.testing.assert_array_equal, read_steps(tmp_path, 3), everything)


def test_it_stops_at_the_return(tmp_path: Path) -> None:
    (nothing, first) = train(tmp_path, TINY, -NEVER, max_steps=400)
    assert nothing == () and len(first) == 1
    assert list(train(tmp_path, TINY, -NEVER, max_steps=400)) == [first]  # and is done when it is asked again
    with pytest.raises(
        MarlineError, match=rf"did not reach a return of {NEVER:.0f} in 60 steps, the best is \d+; go on"
    ):
        list(train(tmp_path, TINY, NEVER, max_steps=60))


def test_folders_that_are_not_its_own_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="is not empty and holds no training"):
        next(train(tmp_path, TINY, NEVER, max_steps=400))
    folder = tmp_path / "training"
    begun = train(folder, TINY, NEVER, max_steps=400)
    next(begun)
    with pytest.raises(ConfigError, match="another process trains there"):
        next(train(folder, TINY, NEVER, max_steps=400))
    begun.close()
    with pytest.raises(ConfigError, match=re.escape("holds another training (seed 0 there, 1 here)")):
        next(train(folder, dataclasses.replace(TINY, seed=1), NEVER, max_steps=400))
    assert json.loads((folder / "training.json").read_text())["sac"]["hidden"] == [8]
    with locked(folder / "lock"):  # it was let go
        pass


def test_a_flipped_byte_is_noticed(tmp_path: Path, lessons: list[Lesson]) -> None:
    begun = train(tmp_path, TINY, NEVER, max_steps=400)
    next(begun)
    next(begun)
    begun.close()
    file = tmp_path / "000000" / "steps" / "agent_0.h5"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptionError, match=r"agent_0\.h5"):
        list(train(tmp_path, TINY, NEVER, max_steps=400))


@pytest.mark.parametrize("joints", [(3, 3), pytest.param((2, 2, 2), marks=pytest.mark.slow), (1, 5), (6,)])
def test_agents_together_act_as_the_one_policy(joints: tuple[int, ...]) -> None:
    specs = {f"agent_{i}": Spec(17, size) for i, size in enumerate(joints)}

    @jax.jit
    def draw() -> tuple[tuple[Array, Array], list[tuple[Array, Array]]]:
        actor = SquashedGaussianActor.create(Spec(17, 6), (8, 8), key=jax.random.key(0))
        observation, noise = jax.random.normal(jax.random.key(1), (17,)), jax.random.normal(jax.random.key(2), (6,))
        policies = share_out(actor, specs)
        parts = jnp.split(noise, np.cumsum(joints)[:-1])
        drawn = [policies[agent].actor.sample(observation, part) for agent, part in zip(specs, parts, strict=True)]
        return actor.sample(observation, noise), drawn

    (action, log_density), drawn = draw()
    np.testing.assert_allclose(np.concatenate([action for action, _ in drawn]), action, atol=1e-6)
    np.testing.assert_allclose(sum(np.asarray(density) for _, density in drawn), log_density, rtol=1e-5)
