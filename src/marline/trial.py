"""Samplers, algorithms and distances of the user's own, tried before anything is computed or written.

Whatever they raise, and a reply of the wrong form, is told in a sentence that names the method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marline.algorithms import Algorithm
from marline.data.experience import Experience
from marline.errors import ConfigError, MarlineError
from marline.inputs.users_code import require_theirs, told, users_code
from marline.samplers import Sampler, rewrites
from marline.types import Critic, Spec, Transition

_OURS = __name__.partition(".")[0]
LONGEST = 120  # characters of a reply in a message
MOST_OFFLINE, MOST_ONLINE, NUM_DRAWS = 500, 100, 20  # of a trial with numbers


def is_theirs(part: Any) -> bool:
    """Whether a sampler, an algorithm or anything that it is made of is none of marline's own."""
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return False
    inner = (getattr(part, field.name) for field in dataclasses.fields(part))
    return type(part).__module__.partition(".")[0] != _OURS or any(map(is_theirs, inner))


def _called(part: Any) -> str:
    """Its type, and those of the user's that it is made of."""
    inner = (getattr(part, field.name) for field in dataclasses.fields(part))
    return " with ".join([type(part).__name__, *(_called(one) for one in inner if is_theirs(one))])


@contextmanager
def trying(*parts: Any) -> Iterator[None]:
    """Raise `ConfigError` for whatever a block raises that traces parts, if one of them is the user's own."""
    theirs = [_called(part) for part in parts if is_theirs(part)]
    try:
        yield
    except MarlineError:
        raise
    except (Exception, SystemExit) as error:  # their code may raise anything
        require_theirs(error)
        if not theirs:
            raise
        raise ConfigError(
            f"{' and '.join(theirs)} cannot be computed: {told(error)}; marline.testing checks one rule after another"
        ) from error


def require_algorithm(algorithm: Algorithm[Any], experience: Experience, key: Any) -> None:
    """Refuse an algorithm of the user's whose methods fail or reply in another form than `Algorithm` says.

    Args:
        algorithm: any; marline's own pass.
        experience: its outline.
        key: its outline.
    """
    if not is_theirs(algorithm):
        return
    what = type(algorithm).__name__

    def ask(experience: Experience, key: Any) -> None:
        learner = _ask(f"{what}.init", lambda: algorithm.init(experience, key=key))
        batch = experience[jnp.arange(2)]
        reply = _ask(f"{what}.update", lambda: algorithm.update(learner, batch, key=key))
        after, metrics = _several(reply, ("learner", "metrics"), f"{what}.update")
        _same_form(learner, after, f"{what}.update")
        _metrics(metrics, f"{what}.update", scalars=True)
        policy = _ask(f"{what}.policy", lambda: algorithm.policy(learner))
        if not callable(policy):
            raise ConfigError(f"{what}.policy returns {_shown(policy)}, but must return a function of observations")
        row = jax.tree.map(lambda leaf: leaf[0], batch)
        action = _ask(f"the policy of {what}", lambda: policy(row.observation, key=key, action_mask=row.action_mask))
        _action(action, experience.spec, f"the policy of {what}")
        critic = _ask(f"{what}.critic", lambda: algorithm.critic(learner))
        if critic is None:
            return
        values = {
            "q": _ask(f"the q of {what}", lambda: critic.q(row.observation, row.action)),
            "v": _ask(f"the v of {what}", lambda: critic.v(row.observation, key=key, action_mask=row.action_mask)),
        }
        for name, value in values.items():
            if _form(value)[0] != () or _form(value)[1] is None:
                raise ConfigError(f"the {name} of {what} gives {_shown(value)} for one example; let it give one number")

    jax.eval_shape(ask, experience, key)


def require_sampler(
    sampler: Sampler[Any], critic_of: Callable[[Any], Critic | None], learner: Any, experience: Experience, key: Any
) -> None:
    """Refuse a sampler of the user's whose methods fail or reply in another form than `Sampler` says.

    Args:
        sampler: any; marline's own pass.
        critic_of: a learner's critic, see `Algorithm`.
        learner: its outline.
        experience: its outline.
        key: its outline.
    """
    if not is_theirs(sampler) or type(sampler).__module__.partition(".")[0] == _OURS:
        return
    what = type(sampler).__name__

    def ask(learner: Any, experience: Experience, key: Any) -> None:
        critic = critic_of(learner)
        memory = _ask(f"{what}.init", lambda: sampler.init(experience, key=key))
        name = f"{what}.begin_deployment"
        reply = _ask(name, lambda: sampler.begin_deployment(memory, experience, critic, key=key))
        begun, metrics = _several(reply, ("memory", "metrics"), name)
        _same_form(memory, begun, name)
        _metrics(metrics, name, scalars=False)
        name = f"{what}.sample"
        reply = _ask(name, lambda: sampler.sample(begun, experience, critic, key=key))
        rows, after, metrics = _several(reply, ("rows", "memory", "metrics"), name)
        _same_form(memory, after, name)
        _metrics(metrics, name, scalars=True)
        shape, kind = _form(rows)
        if kind is None or kind.kind not in "iu" or len(shape) != 1 or shape[0] < 1:
            raise ConfigError(f"{name} returns as rows {_shown(rows)}, but must return their numbers, int32[batch]")
        if rewrites(sampler):
            name, batch = f"{what}.rewrite", experience[rows]
            _same_form(batch, _ask(name, partial(sampler.rewrite, after, rows, batch, experience, key=key)), name)

    jax.eval_shape(ask, learner, experience, key)


def require_rows_that_are_there(sampler: Sampler[Any], algorithm: Algorithm[Any], experience: Experience) -> None:
    """Refuse a sampler of the user's that draws rows which are not logged, as a few draws from a few rows tell.

    Args:
        sampler: any that was found to reply in the right form; marline's own pass.
        algorithm: whose critic it looks at.
        experience: its outline; in its place stand any numbers, and no more rows than it has.
    """
    if not is_theirs(sampler) or type(sampler).__module__.partition(".")[0] == _OURS:
        return
    spec, num_online = experience.spec, min(experience.max_online, MOST_ONLINE)
    offline = Experience.create(
        some_rows(spec, min(experience.num_offline, MOST_OFFLINE), 0),
        spec,
        num_deployments=1,
        rows_per_deployment=num_online,
    )
    whole = offline.merge(some_rows(spec, num_online, 1), 1)

    def draw(offline: Experience, whole: Experience, key: Any) -> Any:
        critic = algorithm.critic(algorithm.init(offline, key=key))
        memory, _ = sampler.begin_deployment(sampler.init(offline, key=key), whole, critic, key=key)

        def step(memory: Any, key: Any) -> Any:
            rows, memory, _ = sampler.sample(memory, whole, critic, key=key)
            return memory, rows

        return jax.lax.scan(step, memory, jax.random.split(key, NUM_DRAWS))[1]

    try:
        rows = np.asarray(jax.jit(draw)(offline, whole, jax.random.key(0)))
    except (Exception, SystemExit) as error:  # what it cannot do with so few rows is no fault
        require_theirs(error)
        return
    size = int(whole.size)
    missing = rows[(rows < 0) | (rows >= size)]
    if len(missing):
        raise ConfigError(
            f"{type(sampler).__name__}.sample drew row {missing[0]} for an agent who has rows 0 to {size - 1}; draw "
            "from 0 on and below experience.size"
        )


def some_rows(spec: Spec, num: int, seed: int) -> Transition:
    """Rows of any numbers, and every tenth the end of an episode."""
    random = np.random.default_rng(seed)
    action = (
        random.integers(0, spec.action_size, num).astype(np.int32)
        if spec.discrete
        else random.uniform(-1, 1, (num, spec.action_size)).astype(np.float32)
    )
    masks = np.ones((num, spec.action_size), bool) if spec.discrete else None
    return Transition(
        random.normal(size=(num, spec.observation_size)).astype(np.float32),  # pyright: ignore[reportArgumentType]
        action,  # pyright: ignore[reportArgumentType]
        random.normal(size=num).astype(np.float32),  # pyright: ignore[reportArgumentType]
        (np.arange(num) % 10 != 9).astype(np.float32),  # pyright: ignore[reportArgumentType]
        random.normal(size=(num, spec.observation_size)).astype(np.float32),  # pyright: ignore[reportArgumentType]
        masks,  # pyright: ignore[reportArgumentType]
        masks,  # pyright: ignore[reportArgumentType]
    )


def _ask(name: str, call: Callable[[], Any]) -> Any:
    with users_code(f"{name}()"):
        return call()


def _several(reply: Any, names: tuple[str, ...], what: str) -> Any:
    if not isinstance(reply, tuple | list) or len(reply) != len(names):
        raise ConfigError(f"{what} returns {_shown(reply)}, but must return ({', '.join(names)})")
    return reply


def _same_form(before: Any, after: Any, what: str) -> None:
    forms = [(jax.tree.structure(tree), [_form(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (before, after)]
    if forms[0] != forms[1]:
        raise ConfigError(
            f"{what} makes {_shown(after)} of {_shown(before)}; state must keep its form, for loops are compiled"
        )


def _action(action: Any, spec: Spec, what: str) -> None:
    wanted, kinds = ((), "iu") if spec.discrete else ((spec.action_size,), "f")
    shape, kind = _form(action)
    if shape != wanted or kind is None or kind.kind not in kinds:
        told = "the number of a choice, int32[]" if spec.discrete else f"float32[{spec.action_size}]"
        raise ConfigError(f"{what} gives {_shown(action)} for one observation; let it give {told}")


def _metrics(metrics: Any, what: str, *, scalars: bool) -> None:
    if not isinstance(metrics, Mapping) or not all(isinstance(name, str) for name in metrics):
        raise ConfigError(f"{what} returns as metrics {_shown(metrics)}, but must return a dict of numbers by name")
    for name, value in metrics.items():
        shape, kind = _form(value)
        if kind is None or kind.kind not in "fiub" or (scalars and shape != ()):
            wanted = "one number" if scalars else "numbers"
            raise ConfigError(f"{what} returns as metric {name!r} {_shown(value)}, but must return {wanted}")


def _form(leaf: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype; a dtype of None is that of what JAX does not know."""
    try:
        return jnp.shape(leaf), leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    except TypeError:
        return (), None


def _shown(value: Any) -> str:
    """A reply, with shapes in place of values that are not there yet."""

    def short(leaf: Any) -> Any:
        return _Shape(jax.typeof(leaf).str_short()) if isinstance(leaf, jax.Array) else leaf

    try:
        text = repr(jax.tree.map(short, value))
    except ValueError:  # a dict of which the names have no order
        text = repr(value)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


class _Shape(str):
    def __repr__(self) -> str:
        return str(self)
