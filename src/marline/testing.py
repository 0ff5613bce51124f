"""Whether a sampler, an algorithm or a task of one's own does what marline relies on; to be called in one's tests.

Each function runs the object in small and raises `AssertionError` with the first rule that it breaks:

    from marline.testing import check_sampler

    def test_mine() -> None:
        check_sampler(Mine())
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from marline.algorithms import Algorithm
from marline.configuration.run_config import require_recordable
from marline.data import checkpoints
from marline.data.check import check
from marline.data.experience import Experience
from marline.envs import Simulator, Task, make_task, name_task
from marline.errors import MarlineError
from marline.inputs.arguments import checked_arguments
from marline.rollouts.collection import collect_random
from marline.samplers import Rewriting, Sampler, batch_of, rewrites, trains
from marline.samplers.draw_plan import draw_by_plan, draws_by_plan
from marline.trial import some_rows
from marline.types import Critic, Spec

NUM_OFFLINE, NUM_ONLINE, NUM_DEPLOYMENTS = 60, 12, 3
CONTINUOUS, DISCRETE = Spec(3, 2), Spec(3, 4, discrete=True)


@checked_arguments
def check_sampler(sampler: Sampler[Any], *, critic: Critic | None = None) -> None:
    """Check that a sampler keeps the rules of the `Sampler` protocol.

    A run can record it; its memory is a pytree of arrays that keeps its form; it draws rows that are there; it draws
    the same ones under the same key, alone or beside others, compiled or not; it looks at no row that is not logged
    yet; and its memory survives a checkpoint. If it says that it draws by a plan, it does; if it rewrites rows, they
    keep their form, and what was seen and done.

    Args:
        sampler: an instance.
        critic: what it may look at; a simple one of marline's unless given.

    Raises:
        AssertionError: naming the rule that it breaks.
    """
    what = type(sampler).__name__
    _recordable(sampler, what)
    assert trains(sampler), f"{what} says trains = False, and then nothing is ever drawn with it"
    critic = _Values() if critic is None else critic
    key = jax.random.key(0)
    experience = _experience(CONTINUOUS)
    init = jax.jit(lambda rows, key: sampler.init(rows, key=key))
    begin = jax.jit(lambda state, rows, key: sampler.begin_deployment(state, rows, critic, key=key))
    sample = jax.jit(lambda state, rows, key: sampler.sample(state, rows, critic, key=key))
    memory = _twice(f"{what}.init", lambda: init(experience, key))
    _arrays(memory, f"the memory that {what}.init returns")
    batch_size = None
    for number in (1, 2, NUM_DEPLOYMENTS):
        # fewer rows than there is room for, too: a deployment may be cut
        experience = experience.merge(some_rows(CONTINUOUS, NUM_ONLINE - number, number), number)
        now = jax.random.fold_in(key, number)
        begun, metrics = _twice(f"{what}.begin_deployment", lambda e=experience, k=now, m=memory: begin(m, e, k))
        _same_form(memory, begun, f"{what}.begin_deployment")
        _numbers(metrics, f"{what}.begin_deployment")
        memory = begun
        for step in range(3):
            its = jax.random.fold_in(now, step)
            rows, after, metrics = _twice(f"{what}.sample", lambda e=experience, k=its, m=memory: sample(m, e, k))
            _same_form(memory, after, f"{what}.sample")
            _numbers(metrics, f"{what}.sample")
            rows = np.asarray(rows)
            assert rows.ndim == 1 and rows.dtype.kind in "iu", (
                f"{what}.sample returns rows of shape {rows.shape} and type {rows.dtype}, not whole numbers [batch]"
            )
            assert batch_size in (None, len(rows)), f"{what}.sample returns now {batch_size} rows and now {len(rows)}"
            batch_size = len(rows)
            size = int(experience.size)
            assert ((rows >= 0) & (rows < size)).all(), (
                f"{what}.sample draws row {rows[(rows < 0) | (rows >= size)][0]} where there are {size}: rows from "
                "experience.size on are not logged yet"
            )
            garbage = _with_garbage(experience)
            assert np.array_equal(rows, sample(memory, garbage, its)[0]), (
                f"{what}.sample draws other rows when those that are not logged yet hold something else"
            )
            if rewrites(sampler):
                _rewritten(what, sampler, after, rows, experience, its)
            if draws_by_plan(sampler):
                planned = draw_by_plan(sampler.plan(memory, experience), batch_size, key=its)
                assert np.array_equal(rows, planned), f"{what}.sample draws other rows than {what}.plan says"
                assert not metrics, f"{what}.sample measures something, which one that draws by a plan cannot"
                assert _equal(memory, after), f"{what}.sample changes the memory, which a plan is made of once"
            memory = after
    eager, _, _ = sampler.sample(memory, experience, critic, key=key)
    assert np.array_equal(eager, sample(memory, experience, key)[0]), f"{what}.sample draws other rows when compiled"
    _stacked(what, memory, lambda state, its: sampler.sample(state, experience, critic, key=its)[0])
    _survives(memory, f"the memory of {what}")


@checked_arguments
def check_algorithm(algorithm: Algorithm[Any], *, spec: Spec | None = None) -> None:
    """Check that an algorithm keeps the rules of the `Algorithm` protocol.

    A run can record it; its learner is a pytree of arrays that keeps its form; an update changes it, the same way
    under the same key, alone or beside others; its policy gives actions that an agent has; its critic gives numbers;
    and a learner survives a checkpoint.

    Args:
        algorithm: an instance.
        spec: of the agent that learns; three numbers seen and two continuous actions unless given, or four choices
            where the algorithm refuses those.

    Raises:
        AssertionError: naming the rule that it breaks.
    """
    what = type(algorithm).__name__
    _recordable(algorithm, what)
    assert 0 <= algorithm.gamma <= 1, f"{what}.gamma is {algorithm.gamma}, but must lie in [0, 1]"
    key = jax.random.key(0)
    spec = _accepted(algorithm, key) if spec is None else spec
    experience = _experience(spec)
    init = jax.jit(lambda rows, key: algorithm.init(rows, key=key))
    update = jax.jit(lambda state, batch, key: algorithm.update(state, batch, key=key))
    learner = _twice(f"{what}.init", lambda: init(experience, key))
    _arrays(learner, f"the learner that {what}.init returns")
    first = learner
    for number in range(4):
        its = jax.random.fold_in(key, number)
        batch = experience[jnp.arange(number, number + 16)]
        after, metrics = _twice(f"{what}.update", lambda b=batch, k=its, s=learner: update(s, b, k))
        _same_form(learner, after, f"{what}.update")
        _numbers(metrics, f"{what}.update")
        learner = after
    assert not _equal(first, learner), f"{what}.update changes nothing in four updates"
    assert all(np.isfinite(leaf).all() for leaf in _floats(learner)), f"{what}.update leaves the finite numbers"
    _acts(algorithm, learner, spec, what, key)
    critic = algorithm.critic(learner)
    if critic is not None:
        told = getattr(critic, "gamma", None)
        assert told == algorithm.gamma, (
            f"the critic of {what} has gamma {told}, but {what} {algorithm.gamma}: "
            "samplers would read its values wrongly"
        )
        row = jax.tree.map(lambda leaf: leaf[0], experience[jnp.arange(2)])
        values = (
            critic.q(row.observation, row.action),
            critic.v(row.observation, key=key, action_mask=row.action_mask),
        )
        for name, value in zip("qv", values, strict=True):
            assert np.shape(value) == () and np.isfinite(value), (
                f"the critic of {what} gives {name} = {value}, not one finite number for one example"
            )
    batch = experience[jnp.arange(16)]
    _stacked(what, learner, lambda state, its: algorithm.update(state, batch, key=its)[0])
    _survives(learner, f"the learner of {what}")


@checked_arguments
def check_task(task: Task, *, num_rows: int = 60) -> None:
    """Check that a task can be played, logged and named in a run.

    Its agents have sizes; random play gives sound logs, the same ones for the same seed and others for another one;
    and how many environments of a simulator are stepped side by side changes nothing.

    Args:
        task: an instance; a World or a Simulator.
        num_rows: rows of random play.

    Raises:
        AssertionError: naming the rule that it breaks.
    """
    what = type(task).__name__
    try:
        name = name_task(task)
    except MarlineError as error:
        raise AssertionError(f"{what}: {error}") from error
    assert make_task(name) == task, f"{what}: {name} is another task than this one"
    assert len(task.agents) > 0, f"{what} has no agents"
    assert set(task.agents) == set(task.specs), f"{what}: agents {task.agents} and specs {tuple(task.specs)} differ"
    assert len(set(task.agents)) == len(task.agents), f"{what}: agents {task.agents} repeat"
    assert task.horizon >= 1, f"{what}: horizon is {task.horizon}, but must be at least 1"
    assert task.description, f"{what} describes itself by nothing"
    try:
        logs = collect_random(task, num_rows, seed=0)
        check(logs)
    except MarlineError as error:
        raise AssertionError(f"{what}: {error}") from error
    again, other = collect_random(task, num_rows, seed=0), collect_random(task, num_rows, seed=1)
    for agent in task.agents:
        assert logs[agent].spec == task.specs[agent], f"{what}: logs of {agent} have {logs[agent].spec}"
        assert _equal(logs[agent].columns(), again[agent].columns()), (
            f"{what}: the same seed gives other logs of {agent}; all randomness must come from key or seed"
        )
    differ = any(not _equal(logs[agent].columns(), other[agent].columns()) for agent in task.agents)
    assert differ, f"{what}: another seed gives the same logs"
    if isinstance(task, Simulator) and task.num_environments > 1:
        alone = collect_random(_OneSeat(task), num_rows, seed=0)
        for agent in task.agents:
            assert _equal(logs[agent].columns(), alone[agent].columns()), (
                f"{what}: logs of {agent} depend on how many environments are stepped side by side"
            )


def _rewritten(
    what: str, sampler: Rewriting[Any], memory: PyTree, rows: np.ndarray, experience: Experience, key: Any
) -> None:
    """What a sampler makes of drawn rows is what an update may learn from."""
    what, logged = f"{what}.rewrite", experience[jnp.asarray(rows)]
    rewrite = jax.jit(lambda memory, rows, experience, key: batch_of(sampler, memory, rows, experience, key=key))
    told = _twice(what, lambda: rewrite(memory, rows, experience, key))
    _same_form(logged, told, what)
    assert all(np.isfinite(leaf).all() for leaf in _floats(told)), f"{what} leaves the finite numbers"
    assert _equal((logged.observation, logged.action), (told.observation, told.action)), (
        f"{what} changes what was seen or done: rows would be no longer those of which a run tells the numbers"
    )
    assert _equal(told, rewrite(memory, rows, _with_garbage(experience), key)), (
        f"{what} tells something else when rows that are not logged yet hold something else"
    )


class _Values:
    """Some critic: a function of what it is shown."""

    gamma = 0.9

    def q(self, observation: Any, action: Any) -> Any:
        return jnp.sum(observation) + jnp.sum(jnp.asarray(action, jnp.float32))

    def v(self, observation: Any, *, key: Any, action_mask: Any = None) -> Any:
        return jnp.sum(observation)


class _OneSeat:
    """A simulator of which one environment is stepped."""

    def __init__(self, task: Simulator) -> None:
        self._task = task
        self.agents, self.specs, self.horizon = task.agents, task.specs, task.horizon
        self.description, self.num_environments = task.description, 1

    def make(self) -> Any:
        return self._task.make()


def _experience(spec: Spec) -> Experience:
    return Experience.create(
        some_rows(spec, NUM_OFFLINE, 0), spec, num_deployments=NUM_DEPLOYMENTS, rows_per_deployment=NUM_ONLINE
    )


def _with_garbage(experience: Experience) -> Experience:
    """The same, with other numbers where nothing is logged yet."""
    import dataclasses

    place = jnp.arange(experience.online_rows.shape[0])[:, None] + experience.num_offline
    rows = jnp.where(place < experience.size, experience.online_rows, 1e6)
    return dataclasses.replace(experience, online_rows=rows)


def _recordable(value: Any, what: str) -> None:
    try:
        require_recordable(value, what)
        hash(value)
    except (MarlineError, TypeError) as error:
        raise AssertionError(str(error)) from error


def _accepted(algorithm: Algorithm[Any], key: Any) -> Spec:
    """Continuous actions, or discrete ones if the algorithm refuses those."""
    try:
        jax.eval_shape(lambda rows: algorithm.init(rows, key=key), _experience(CONTINUOUS))
    except MarlineError:
        return DISCRETE
    return CONTINUOUS


def _acts(algorithm: Algorithm[Any], learner: Any, spec: Spec, what: str, key: Any) -> None:
    policy, observation = algorithm.policy(learner), jnp.zeros(spec.observation_size)
    if spec.discrete:
        for allowed in range(spec.action_size):
            mask = jnp.arange(spec.action_size) == allowed
            action = policy(observation, key=key, action_mask=mask)
            assert np.shape(action) == () and int(action) == allowed, (
                f"the policy of {what} chooses {action} where only {allowed} is allowed"
            )
        return
    for scale in (1.0, 1e3):
        action = np.asarray(policy(observation + scale, key=key))
        assert action.shape == (spec.action_size,), (
            f"the policy of {what} gives {action.shape}, not [{spec.action_size}]"
        )
        assert (np.abs(action) <= 1 + 1e-6).all(), f"the policy of {what} gives {action}, which is not within [-1, 1]"
        again = np.asarray(policy(observation + scale, key=key))
        assert np.array_equal(action, again), f"the policy of {what} acts in two ways under one key"


def _twice(what: str, compute: Callable[[], Any]) -> Any:
    first, second = compute(), compute()
    assert _equal(first, second), f"{what} gives two results under one key: all randomness must come from the key"
    return first


def _leaves(tree: PyTree) -> list[np.ndarray]:
    plain = [
        jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        for leaf in jax.tree.leaves(tree)
    ]
    return [np.asarray(leaf) for leaf in plain]


def _equal(first: PyTree, second: PyTree) -> bool:
    pairs = zip(_leaves(first), _leaves(second), strict=True)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


def _floats(tree: PyTree) -> list[np.ndarray]:
    return [leaf for leaf in _leaves(tree) if leaf.dtype.kind == "f"]


def _arrays(tree: PyTree, what: str) -> None:
    strange = [leaf for leaf in jax.tree.leaves(tree) if not isinstance(leaf, jax.Array | np.ndarray)]
    assert not strange, f"{what} holds {strange[0]!r}, but may hold arrays only"


def _same_form(before: PyTree, after: PyTree, what: str) -> None:
    assert jax.tree.structure(before) == jax.tree.structure(after), f"{what} changes the structure of what it is given"
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert old.shape == new.shape and old.dtype == new.dtype, (
            f"{what} makes {new.dtype}{list(new.shape)} of {old.dtype}{list(old.shape)}; a compiled loop needs one form"
        )


def _numbers(metrics: Any, what: str) -> None:
    for name, value in dict(metrics).items():
        assert isinstance(name, str) and np.asarray(value).dtype.kind in "fiub", f"{what} measures {name} = {value!r}"


def _stacked(what: str, state: PyTree, compute: Callable[[Any, Any], Any]) -> None:
    """Learners are stacked on an accelerator; each must do what it does alone, up to rounding."""
    keys = jax.random.split(jax.random.key(7), 2)
    both = jax.jit(jax.vmap(compute))(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state), keys)
    for place, its in enumerate(keys):
        alone = jax.jit(compute)(state, its)
        stacked = jax.tree.map(lambda leaf, place=place: leaf[place], both)
        for a, b in zip(_leaves(alone), _leaves(stacked), strict=True):
            close = np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True) if a.dtype.kind == "f" else True
            assert close, f"{what} does something else when it is stacked with others"


def _survives(tree: PyTree, what: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "checkpoint"
        checkpoints.save_checkpoint(home, {"tree": tree}, {})
        stored, _ = checkpoints.load_checkpoint(home, {"tree": tree})
    assert _equal(tree, stored["tree"]), f"{what} does not survive a checkpoint"
