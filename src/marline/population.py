"""Many learners at once: one after another on a CPU, stacked and vectorised on an accelerator.

Stacking changes nothing but speed: on an accelerator a step of one small network is all launch
overhead, on a CPU it is all arithmetic. Learners that are alike stay stacked from their making to the
end, and are taken apart to be written or handed out only: neither what the host does nor what is
compiled grows with their number.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from marline.nn.batched_cond import Varying
from marline.runtime import release_memory

K = TypeVar("K", bound=Hashable)
N = TypeVar("N", bound=Hashable)
Static = Mapping[str, Hashable]
Leaf = Array | np.ndarray | np.generic
Grid = tuple[tuple[K, ...], ...]  # learners in rows of one length: the seeds of an agent, say
EVERYBODY, ROW, LEARNER = 0, 1, 2  # leading axes of a leaf held once for all, for each row, for each learner
SMALL = 1 << 20  # bytes; larger arrays do not go over the host to be stacked

_forced: list[bool] = []


@contextlib.contextmanager
def stacked(stack: bool) -> Iterator[None]:
    """Stack learners, or take them one after another, whatever the device; for tests and measurements."""
    _forced.append(stack)
    try:
        yield
    finally:
        _forced.pop()


def stacks() -> bool:
    """Whether learners are stacked: on an accelerator, and where `stacked` or MARLINE_STACKED=1 says so."""
    if _forced:
        return _forced[-1]
    told = os.environ.get("MARLINE_STACKED", "")
    return told == "1" if told else jax.default_backend() != "cpu"


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Stacked:
    """One tree for several learners that are alike.

    Attributes:
        tree: that of one learner, but for leading axes of its leaves.
        axes: for each leaf how many: none where all learners have the same, one where those of a row do, or two.
    """

    tree: PyTree
    axes: tuple[int, ...]

    @property
    def outline(self) -> PyTree:
        """Shapes and types of one learner's tree."""
        leaves, structure = jax.tree.flatten(self.tree)
        shapes = zip(leaves, self.axes, strict=True)
        return jax.tree.unflatten(
            structure, [jax.ShapeDtypeStruct(leaf.shape[held:], leaf.dtype) for leaf, held in shapes]
        )

    def tree_flatten(self) -> tuple[tuple[PyTree], tuple[int, ...]]:
        return (self.tree,), self.axes

    @classmethod
    def tree_unflatten(cls, axes: tuple[int, ...], children: tuple[PyTree]) -> Stacked:
        return cls(children[0], axes)


class Group(NamedTuple):
    """Learners that are alike, in a grid, and what they have."""

    grid: Grid[Any]
    stacked: Stacked

    @property
    def size(self) -> tuple[int, int]:
        return len(self.grid), len(self.grid[0])

    @property
    def learners(self) -> list[Any]:
        return [learner for row in self.grid for learner in row]

    def part(self, wanted: Collection[Any]) -> Group:
        """The columns of some learners."""
        columns = np.array([j for j, learner in enumerate(self.grid[0]) if learner in wanted], np.int32)
        if len(columns) == len(self.grid[0]):
            return self
        grid = tuple(tuple(row[j] for j in columns) for row in self.grid)
        leaves, structure = jax.tree.flatten(self.stacked.tree)
        of_learners = [leaf for leaf, held in zip(leaves, self.stacked.axes, strict=True) if held == LEARNER]
        taken = iter(_columns(of_learners, columns))
        leaves = [
            next(taken) if held == LEARNER else leaf for leaf, held in zip(leaves, self.stacked.axes, strict=True)
        ]
        return Group(grid, Stacked(jax.tree.unflatten(structure, leaves), self.stacked.axes))


@jax.tree_util.register_pytree_node_class
class Stack(Mapping[K, Any], Generic[K]):
    """What many learners have, by learner, held stacked; asking for one of them takes that one apart.

    Integers that are the same for all, such as counts of updates, are held once, so that a step that is
    due by such a count is due for all, and stays a branch when learners are stacked.
    """

    def __init__(self, learners: Sequence[K], groups: Sequence[Group]) -> None:
        self.learners, self.groups = tuple(learners), tuple(groups)
        self._places = {
            learner: (number, i, j)
            for number, group in enumerate(self.groups)
            for i, row in enumerate(group.grid)
            for j, learner in enumerate(row)
        }
        self._of_row: dict[tuple[int, int], list[Array]] = {}

    def tree_flatten(self) -> tuple[list[Stacked], tuple[Any, ...]]:
        return [group.stacked for group in self.groups], (self.learners, tuple(group.grid for group in self.groups))

    @classmethod
    def tree_unflatten(cls, form: tuple[Any, ...], trees: Sequence[Any]) -> Stack[Any]:
        learners, grids = form
        return cls(learners, [Group(grid, tree) for grid, tree in zip(grids, trees, strict=True)])

    @staticmethod
    def of(values: Mapping[K, PyTree], kind: Callable[[K], Hashable] = lambda learner: None) -> Stack[K]:
        """Stack what is alike: trees of one structure and of leaves of one shape, for learners of one kind.

        What learners share, as the seeds of an agent share its offline rows, is held once if they form rows of one
        length.
        """
        alike: dict[Any, list[K]] = defaultdict(list)
        leaves = {}
        for learner, value in values.items():
            leaves[learner], structure = jax.tree.flatten(value)
            alike[kind(learner), structure, tuple(map(_form, leaves[learner]))].append(learner)
        grids = [_grid(members, leaves) for members in alike.values()]
        return Stack(tuple(values), [Group(grid, _stack_in(grid, values)) for grid in grids])

    def beside(self, values: Mapping[K, PyTree]) -> Stack[K]:
        """Stack something else of the same learners in the same way."""
        if isinstance(values, Stack) and [group.grid for group in values.groups] == [it.grid for it in self.groups]:
            return values
        groups = [Group(group.grid, _stack_in(group.grid, values)) for group in self.groups]
        return Stack(self.learners, groups)

    def part(self, wanted: Collection[K]) -> Stack[K]:
        """Some of the learners: whole columns of the grids, copied unless all are wanted. What rows share is not."""
        groups = [group.part(wanted) for group in self.groups if any(map(wanted.__contains__, group.learners))]
        return Stack([learner for learner in self.learners if learner in wanted], groups)

    def with_trees(self, trees: Sequence[Stacked]) -> Stack[K]:
        """The same learners with something else, given by group."""
        return Stack(self.learners, [Group(group.grid, tree) for group, tree in zip(self.groups, trees, strict=True)])

    def __getitem__(self, learner: K) -> Any:
        number, i, j = self._places[learner]
        stacked = self.groups[number].stacked
        parts: dict[int, list[Array]] = {EVERYBODY: [], ROW: [], LEARNER: []}
        leaves, structure = jax.tree.flatten(stacked.tree)
        for leaf, held in zip(leaves, stacked.axes, strict=True):
            parts[held].append(leaf)
        if (number, i) not in self._of_row:  # they may be large: a copy for each row, not for each learner
            self._of_row[number, i] = [leaf[i] for leaf in parts[ROW]]
        parts |= {ROW: self._of_row[number, i], LEARNER: _taken(parts[LEARNER], i, j)}
        iterators = {held: iter(its) for held, its in parts.items()}
        return jax.tree.unflatten(structure, [next(iterators[held]) for held in stacked.axes])

    def __iter__(self) -> Iterator[K]:
        return iter(self.learners)

    def __len__(self) -> int:
        return len(self.learners)

    def __contains__(self, learner: object) -> bool:
        return learner in self._places


def map_learners(
    function: Callable[..., Any],
    *arguments: Mapping[K, PyTree],
    static: Static | Callable[[K], Static],
    tables: bool = False,
) -> Mapping[K, Any]:
    """`function(*arguments[learner], **static)` for every learner.

    Args:
        function: pure; compiled once per combination of `static` and shapes.
        arguments: for each positional argument, its value per learner.
        static: keyword arguments that are compiled in; the same for all, or by learner.
        tables: hold arrays of whole numbers once where they are the same for all who are stacked, not counts alone.
    """
    learners = list(arguments[0])
    static_of = static if callable(static) else lambda learner: static
    if not any(isinstance(argument, Stack) for argument in arguments) and (not stacks() or len(learners) == 1):
        results, compiles = {}, False
        for learner in learners:
            one = compiled(function, static_of(learner))
            num_programs = one._cache_size()
            results[learner] = one(*(argument[learner] for argument in arguments))
            compiles |= one._cache_size() > num_programs
        if compiles:
            release_memory()
        return results
    joined = _joined(arguments, lambda learner: tuple(static_of(learner).items()))
    outputs = []
    for group in joined.groups:
        program = _over_learners(function, tuple(static_of(group.grid[0][0]).items()))
        outputs.append(program(group.stacked, size=group.size, tables=tables))
    return joined.with_trees(outputs)


def together(values: Mapping[K, PyTree], kind: Callable[[K], Hashable]) -> Mapping[K, PyTree]:
    """What several learners have, stacked where learners are; those of one kind may be stacked together."""
    return values if isinstance(values, Stack) or not stacks() or len(values) < 2 else Stack.of(values, kind)


def part(values: Mapping[K, PyTree], wanted: Collection[K]) -> Mapping[K, PyTree]:
    """What some of the learners have."""
    if isinstance(values, Stack):
        return values.part(wanted)
    return {learner: value for learner, value in values.items() if learner in wanted}


def renamed(values: Mapping[K, PyTree], name: Callable[[K], N]) -> Mapping[N, PyTree]:
    """The same under other names."""
    if not isinstance(values, Stack):
        return {name(learner): value for learner, value in values.items()}
    groups = [Group(tuple(tuple(map(name, row)) for row in its.grid), its.stacked) for its in values.groups]
    return Stack(list(map(name, values.learners)), groups)


def side_by_side(
    parts: Sequence[Mapping[K, PyTree]], shared: Callable[[PyTree], PyTree] = lambda tree: ()
) -> Mapping[K, PyTree]:
    """What several sets of learners have, which are alike, as one stack: their grids beside each other.

    Args:
        parts: with groups of the same forms in the same order, or none of them stacked.
        shared: the part of a tree that stays held once where it is the same object in all of them; all else gets an
            axis of learners, so that what is soon another for each has the same form from the beginning.
    """
    stacks = [its for its in parts if isinstance(its, Stack)]
    if len(stacks) < len(parts):
        return {learner: value for its in parts for learner, value in its.items()}
    if len(stacks) == 1:
        return stacks[0]
    groups = [_beside(groups, shared) for groups in zip(*(its.groups for its in stacks), strict=True)]
    return Stack([learner for its in stacks for learner in its.learners], groups)


def rearranged(function: Callable[..., PyTree], *values: Mapping[K, PyTree]) -> Mapping[K, PyTree]:
    """`function(*values[learner])` for every learner, for functions that take trees apart and compute nothing."""
    first = next((value for value in values if isinstance(value, Stack)), None)
    if first is None:
        return {learner: function(*(value[learner] for value in values)) for learner in values[0]}
    stacks = [first.beside(value) for value in values]
    trees = []
    for groups in zip(*(stack.groups for stack in stacks), strict=True):
        tree = function(*(group.stacked.tree for group in groups))
        axes = function(*(jax.tree.unflatten(jax.tree.structure(it.tree), it.axes) for _, it in groups))
        trees.append(Stacked(tree, tuple(jax.tree.leaves(axes))))
    return first.with_trees(trees)


def on_host(values: Mapping[K, PyTree]) -> dict[K, PyTree]:
    """Everything in NumPy, by learner, brought over at once."""
    if not isinstance(values, Stack):
        return jax.device_get(dict(values))
    trees = jax.device_get([group.stacked for group in values.groups])
    here = {}
    for group, stacked in zip(values.groups, trees, strict=True):
        leaves, structure = jax.tree.flatten(stacked.tree)
        for i, row in enumerate(group.grid):
            for j, learner in enumerate(row):
                of_learner = [leaf[(*(i, j)[:held], ...)] for leaf, held in zip(leaves, stacked.axes, strict=True)]
                here[learner] = jax.tree.unflatten(structure, of_learner)
    return {learner: here[learner] for learner in values}


def outlines(values: Mapping[K, PyTree]) -> Mapping[K, PyTree]:
    """Shapes and types of what each learner has, for reading such a thing from disk; nothing is taken apart."""
    if not isinstance(values, Stack):
        return values
    of_groups = {learner: group.stacked.outline for group in values.groups for learner in group.learners}
    return {learner: of_groups[learner] for learner in values}


def kept(still: Collection[K], before: Mapping[K, PyTree], after: Mapping[K, PyTree]) -> Mapping[K, PyTree]:
    """`after`, but for some learners that stay as they were before; nothing is restacked."""
    if not isinstance(after, Stack):
        return {learner: before[learner] if learner in still else after[learner] for learner in before}
    if not still:
        return after
    trees = []
    for old, new in zip(after.beside(before).groups, after.groups, strict=True):
        mask = np.array([[learner in still for learner in row] for row in new.grid])
        trees.append(_choose(mask, old.stacked, new.stacked) if mask.any() else new.stacked)
    return after.with_trees(trees)


def compiled(function: Callable[..., Any], static: Static) -> Any:
    """The jitted function that `map_learners` calls for each learner on a CPU."""
    return _compiled(function, tuple(static.items()))


def compile_ahead(programs: Sequence[jax.stages.Traced], num_threads: int) -> None:
    """Compile into JAX's persistent cache, several at a time, what will be needed soon."""
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(lambda program: program.lower().compile(), programs))


@functools.cache
def _compiled(function: Callable[..., Any], static: tuple[tuple[str, Hashable], ...]) -> Any:
    return jax.jit(functools.partial(function, **dict(static)))


@functools.cache
def _over_learners(function: Callable[..., Any], static: tuple[tuple[str, Hashable], ...]) -> Any:
    """A function of one learner as a program for a grid of them."""

    @functools.partial(jax.jit, static_argnames=("size", "tables"))
    def over_learners(arguments: Stacked, *, size: tuple[int, int], tables: bool) -> Stacked:
        leaves, structure = jax.tree.flatten(arguments.tree)
        varying = Varying()

        def one(leaves: list[Array]) -> Any:
            return varying.watch(function(*jax.tree.unflatten(structure, leaves), **dict(static)))

        of_row = jax.vmap(one, ([0 if held == LEARNER else None for held in arguments.axes],), axis_size=size[1])
        of_all = jax.vmap(of_row, ([0 if held >= ROW else None for held in arguments.axes],), axis_size=size[0])
        outputs, form = jax.tree.flatten(of_all(leaves))
        # not everything: what starts out the same for all and soon is not would make for two programs
        is_common = [
            (tables or leaf.ndim == LEARNER) and _is_whole(leaf) and not varies
            for leaf, varies in zip(outputs, varying.leaves, strict=True)
        ]
        outputs = [leaf[0, 0] if common else leaf for leaf, common in zip(outputs, is_common, strict=True)]
        axes = tuple(EVERYBODY if common else LEARNER for common in is_common)
        return Stacked(jax.tree.unflatten(form, outputs), axes)

    return over_learners


def _joined(arguments: Sequence[Mapping[K, PyTree]], kind: Callable[[K], Hashable]) -> Stack[K]:
    """Tuples of arguments; as the first that is stacked, if none of its groups is of several kinds."""
    first = next((argument for argument in arguments if isinstance(argument, Stack)), None)
    if first is not None and all(len({*map(kind, group.learners)}) == 1 for group in first.groups):
        joined = rearranged(lambda *values: values, *(first.beside(argument) for argument in arguments))
        assert isinstance(joined, Stack)
        return joined
    return Stack.of({learner: tuple(it[learner] for it in arguments) for learner in arguments[0]}, kind)


def _grid(learners: Sequence[K], leaves: Mapping[K, Sequence[Leaf]]) -> Grid[K]:
    """Rows of learners that share arrays; one row for all if those are not of one length."""
    columns = zip(*(leaves[learner] for learner in learners), strict=True)
    is_common = [len({*map(id, column)}) < len(learners) for column in columns]
    rows: dict[Any, list[K]] = defaultdict(list)
    for learner in learners:
        shared = zip(leaves[learner], is_common, strict=True)
        rows[tuple(id(leaf) for leaf, common in shared if common)].append(learner)
    if len({len(row) for row in rows.values()}) > 1:
        return (tuple(learners),)
    if all(len(row) == 1 for row in rows.values()):  # nothing is shared: one row, which is one axis less to map over
        return (tuple(learners),)
    return tuple(map(tuple, rows.values()))


def _stack_in(grid: Grid[K], values: Mapping[K, PyTree]) -> Stacked:
    """Stack trees in a grid."""
    rows = [[jax.tree.leaves(values[learner]) for learner in row] for row in grid]
    structure = jax.tree.structure(values[grid[0][0]])
    leaves: list[Any] = []
    axes, small = [], {}
    for number in range(structure.num_leaves):
        table = [[of_learner[number] for of_learner in row] for row in rows]
        axes.append(_held(table))
        first = table[0][0]
        parts = [row[0] for row in table] if axes[-1] == ROW else [leaf for row in table for leaf in row]
        shape = (len(grid), len(grid[0]))[: axes[-1]]
        if axes[-1] == EVERYBODY:
            leaves.append(jnp.asarray(first))
        elif jnp.issubdtype(first.dtype, jax.dtypes.prng_key):
            leaves.append(jnp.stack(parts).reshape(shape))
        elif first.nbytes > SMALL and not isinstance(first, np.ndarray):
            leaves.append(_piled(parts).reshape(*shape, *first.shape))
        else:
            small[number] = parts, shape
            leaves.append(None)
    for number, (parts, shape) in jax.device_get(small).items():
        whole = np.stack(parts)
        leaves[number] = jnp.asarray(whole.reshape(*shape, *whole.shape[1:]))
    return Stacked(jax.tree.unflatten(structure, leaves), tuple(axes))


def _piled(parts: Sequence[Leaf]) -> Array:
    """`jnp.stack`, which would be compiled anew for every number of arrays and take long with many."""
    pile = jnp.zeros((len(parts), *parts[0].shape), parts[0].dtype)
    for number, part in enumerate(parts):
        pile = _placed(pile, part, number)
    return pile


@functools.partial(jax.jit, donate_argnums=0)
def _placed(pile: Array, part: Leaf, number: Array | int) -> Array:
    return pile.at[number].set(part)


def _held(table: Sequence[Sequence[Leaf]]) -> int:
    """How a leaf, given by row and learner, is held: by who has the same object, or whole numbers of the same value."""
    objects = {id(leaf): leaf for row in table for leaf in row}
    first, *others = objects.values()
    if not others or (_is_whole(first) and _are_equal([first, *others])):
        return EVERYBODY
    return ROW if all(len({*map(id, row)}) == 1 for row in table) else LEARNER


def _are_equal(leaves: Sequence[Leaf]) -> bool:
    first, *others = jax.device_get(list(leaves))
    return all(np.array_equal(first, other) for other in others)


def _is_whole(leaf: Leaf) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.integer) or jnp.issubdtype(leaf.dtype, jnp.bool_))


def _form(leaf: Any) -> tuple[tuple[int, ...], str]:
    return leaf.shape, str(leaf.dtype)


def _beside(groups: Sequence[Group], shared: Callable[[PyTree], PyTree]) -> Group:
    """Grids with as many rows side by side."""
    once = {*map(id, jax.tree.leaves(shared(groups[0].stacked.tree)))}
    structure = jax.tree.structure(groups[0].stacked.tree)
    columns = [
        list(zip(its, held, strict=True))
        for its, held in zip(
            zip(*(jax.tree.leaves(group.stacked.tree) for group in groups), strict=True),
            zip(*(group.stacked.axes for group in groups), strict=True),
            strict=True,
        )
    ]
    is_once = [id(column[0][0]) in once and all(leaf is column[0][0] for leaf, _ in column) for column in columns]
    grids, width = [group.grid for group in groups], len(groups[0].grid[0])
    # a single row of learners that share nothing, each of which has something in common with one of each other set
    is_turned = len(grids[0]) == 1 < width and any(
        one and column[0][1] == LEARNER for one, column in zip(is_once, columns, strict=True)
    )
    if is_turned:
        grids = [tuple((learner,) for learner in grid[0]) for grid in grids]
        columns = [
            [_turned(*its[0], is_once=True)] * len(its) if one else [_turned(*it, is_once=False) for it in its]
            for one, its in zip(is_once, columns, strict=True)
        ]
    leaves: list[Any] = [None] * len(columns)
    axes, apart = [LEARNER] * len(columns), []
    for number, (one, column) in enumerate(zip(is_once, columns, strict=True)):
        first, held = column[0]
        is_common = {of_part for _, of_part in column} == {EVERYBODY} and _is_whole(first)
        if (one and held != LEARNER) or (is_common and _are_equal([leaf for leaf, _ in column])):
            leaves[number], axes[number] = first, held
        else:
            apart.append(number)
    sizes = tuple((len(grid), len(grid[0])) for grid in grids)
    its = [[leaf for leaf, _ in columns[number]] for number in apart]
    held = tuple(tuple(of_part for _, of_part in columns[number]) for number in apart)
    for number, leaf in zip(apart, _concatenated(its, held=held, sizes=sizes), strict=True):
        leaves[number] = leaf
    grid = tuple(tuple(learner for row in rows for learner in row) for rows in zip(*grids, strict=True))
    return Group(grid, Stacked(jax.tree.unflatten(structure, leaves), tuple(axes)))


def _turned(leaf: Any, held: int, is_once: bool) -> tuple[Any, int]:
    """Of the learners of a single row, as of rows of one learner each; what is held once is held by row."""
    if held == LEARNER:
        return (leaf[0], ROW) if is_once else (jnp.swapaxes(leaf, 0, 1), LEARNER)
    return (leaf[0], EVERYBODY) if held == ROW else (leaf, EVERYBODY)


@functools.partial(jax.jit, static_argnames=("held", "sizes"))
def _concatenated(
    columns: list[list[Array]], *, held: tuple[tuple[int, ...], ...], sizes: tuple[tuple[int, int], ...]
) -> list[Array]:
    """Leaves of several grids, of these sizes, side by side; with an axis of learners, however they are held."""

    def whole(leaf: Array, held: int, size: tuple[int, int]) -> Array:
        shape = leaf.shape[held:]
        return jnp.broadcast_to(leaf.reshape(*leaf.shape[:held], *(1,) * (LEARNER - held), *shape), (*size, *shape))

    return [
        jnp.concatenate([whole(*it) for it in zip(leaves, of_leaves, sizes, strict=True)], axis=1)
        for leaves, of_leaves in zip(columns, held, strict=True)
    ]


@jax.jit
def _columns(leaves: list[Array], columns: Array | np.ndarray) -> list[Array]:
    return [leaf[:, columns] for leaf in leaves]


@jax.jit
def _taken(leaves: list[Array], i: Array | int, j: Array | int) -> list[Array]:
    return [leaf[i, j] for leaf in leaves]


def _choose(mask: np.ndarray, old: Stacked, new: Stacked) -> Stacked:
    """The old where the mask says so; what is the same before and after stays as it is held."""
    before, (after, structure) = jax.tree.leaves(old.tree), jax.tree.flatten(new.tree)
    leaves, axes = list(after), list(new.axes)
    changed: dict[int, tuple[Array, Array]] = {}
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        is_common = old.axes[number] == new.axes[number] == EVERYBODY
        if one is not other and not (is_common and _are_equal([one, other])):
            # with the axes that are missing, of length 1
            one, other = (
                leaf.reshape(*leaf.shape[:held], *(1,) * (LEARNER - held), *leaf.shape[held:])
                for leaf, held in ((one, old.axes[number]), (other, new.axes[number]))
            )
            changed[number], axes[number] = (one, other), LEARNER
    for number, leaf in _chosen(mask, changed).items():
        leaves[number] = leaf
    return Stacked(jax.tree.unflatten(structure, leaves), tuple(axes))


@jax.jit
def _chosen(mask: Array, pairs: dict[int, tuple[Array, Array]]) -> dict[int, Array]:
    return {
        number: jnp.where(mask.reshape(*mask.shape, *(1,) * (old.ndim - LEARNER)), old, new)
        for number, (old, new) in pairs.items()
    }
