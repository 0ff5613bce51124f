"""Processes that step the environments of a simulator in lockstep, and share with this one what is seen and done.

This process holds the accelerator: at every step it tells what the agents in all seats of all teams do, in one call.
The others hold the environments, a share of the seats each, and everything that happens to an episode from its reset to
its rows happens there as it does in one process: which process it is changes nothing.

What is shared lies in one segment of memory, whose name is given back as soon as all have opened it: however they end,
nothing is left behind.
"""

from __future__ import annotations

import contextlib
import contextvars
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import current_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple

import jax
import numpy as np

from marline import plugins
from marline.envs import Simulator
from marline.errors import MarlineError
from marline.forking import end_of, end_with_parent, start, worker_context
from marline.rollouts.game import Game, Outline, Seats, environment_of
from marline.types import AgentID, Transition

ALIGNED = 64  # bytes
NOBODY = -1  # in place of the number of an episode
BEGIN, STEP, FINISH = b"begin", b"step", b"finish"
FINE, TOLD = b"", b"told"  # after the latter something follows
Place = tuple[int, int]  # number of a team, and of a seat


class Played(NamedTuple):
    """An episode that is over: the rows of each agent, and its return."""

    transitions: Mapping[AgentID, Transition]
    total: float


class Order(NamedTuple):
    """What a process is told before it takes part.

    Attributes:
        task: whose environments it steps.
        places: that are its own.
        words: of each team, what the seeds of its episodes are made of.
        memory: name of the segment.
        outline: of the arrays in it.
    """

    task: Simulator
    places: Sequence[Place]
    words: Sequence[list[int]]
    memory: str
    outline: Outline


_pool: contextvars.ContextVar[Pool | None] = contextvars.ContextVar("pool", default=None)


@contextlib.contextmanager
def stepping(num_processes: int) -> Iterator[None]:
    """Let so many processes step what simulators are played in the block; with 0, this one does.

    They are started when they are first needed, and keep their environments until the end of the block.
    """
    pool = Pool(num_processes) if num_processes > 0 and not current_process().daemon else None
    token = _pool.set(pool)
    try:
        yield
    finally:
        _pool.reset(token)
        if pool is not None:
            pool.close()


def pool_for(task: Simulator) -> Pool | None:
    """The processes that step a task, if there are any and it can be sent to them."""
    pool = _pool.get()
    if pool is None or not all(map(plugins.is_importable, plugins.trusted())):
        return None
    try:
        sent = bytes(ForkingPickler.dumps(task))
    except Exception:  # whatever its environments are made by is only here, as in a notebook
        return None
    return None if b"__main__" in sent else pool  # a worker does not run this one's script


class Pool:
    """Some processes."""

    def __init__(self, num_processes: int) -> None:
        self._num_processes = num_processes
        self._workers: list[tuple[Connection, BaseProcess]] = []

    def play(
        self,
        task: Simulator,
        num_seats: Sequence[int],
        words: Sequence[list[int]],
        episodes: Sequence[range],
        act: Callable[[Seats], dict[AgentID, np.ndarray]],
        outline: Outline,
    ) -> list[dict[int, Played]]:
        """Play the episodes of several teams.

        Args:
            task: what is played.
            num_seats: of each team.
            words: of each team, what the seeds of its episodes are made of.
            episodes: of each team.
            act: what all do who are seen in all seats, `[teams, seats, ...]` of every agent.
            outline: of what `act` gives, by agent.

        Raises:
            ConfigError: what an environment returned is not what the task promises, or it failed.
            MarlineError: a process ended; all others are ended, too.
        """
        shape = len(num_seats), task.num_environments
        arrays = {
            **Seats.outline(task.specs, *shape),
            **{f"action {agent}": its for agent, its in outline.items()},
            "running": (np.bool_, shape),
            "next": (np.int32, shape),
        }
        try:
            with _shared(arrays) as (memory, views):
                for name, view in views.items():
                    view[...] = NOBODY if name == "next" else name.startswith("mask ")
                self._open(task, num_seats, words, memory, arrays)
                _play(self, views, num_seats, episodes, act, task)
                del views
                finished: list[dict[int, Played]] = [{} for _ in num_seats]
                self.tell(FINISH, range(len(self._workers)))
                for connection, process in self._workers:
                    for team, number, played in _heard(connection, process):
                        finished[team][number] = played
                return finished
        except BaseException:
            self.close()  # some may be in the middle of a step
            raise

    def tell(self, what: bytes, who: Sequence[int] | range) -> None:
        """Let some processes do something, and wait for them."""
        for number in who:
            connection, process = self._workers[number]
            try:
                connection.send_bytes(what)
            except OSError:
                raise MarlineError(_ended(process)) from None
        if what != FINISH:
            for number in who:
                _heard(*self._workers[number])

    def of_place(self, place_number: int) -> int:
        """Which process a place belongs to."""
        return place_number % len(self._workers)

    def close(self) -> None:
        """End all processes."""
        workers, self._workers = self._workers, []
        for connection, process in workers:
            connection.close()  # which ends it as soon as it is done with what it does
            process.terminate()
        for _, process in workers:
            process.join()

    def _open(
        self,
        task: Simulator,
        num_seats: Sequence[int],
        words: Sequence[list[int]],
        memory: SharedMemory,
        outline: Outline,
    ) -> None:
        """Start who is not there yet, and tell everybody what is going to be played."""
        if not self._workers:
            context, trusted = worker_context(), tuple(plugins.trusted())
            for _ in range(self._num_processes):
                ours, theirs = context.Pipe()
                assert isinstance(ours, Connection)  # a pipe of Windows is another type
                process = context.Process(target=_work, args=(theirs, trusted), daemon=True)
                start(process)
                theirs.close()
                self._workers.append((ours, process))
        places = places_of(num_seats)
        for number, (connection, process) in enumerate(self._workers):
            its = places[number :: len(self._workers)]
            try:
                connection.send(Order(task, its, words, memory.name, outline))
            except OSError:
                raise MarlineError(_ended(process)) from None
        for connection, process in self._workers:
            _heard(connection, process)
        memory.unlink()  # everybody has opened it


def places_of(num_seats: Sequence[int]) -> list[Place]:
    """All seats of all teams, the first ones of all teams first."""
    return [
        (team, seat) for seat in range(max(num_seats, default=0)) for team, its in enumerate(num_seats) if seat < its
    ]


def _play(
    pool: Pool,
    views: Mapping[str, np.ndarray],
    num_seats: Sequence[int],
    episodes: Sequence[range],
    act: Callable[[Seats], dict[AgentID, np.ndarray]],
    task: Simulator,
) -> None:
    """Until all episodes are over: seats that are free get the next one, then everybody acts."""
    seats = Seats.on(views, task.specs)
    running, following = views["running"], views["next"]
    is_seat = np.arange(running.shape[1]) < np.array(num_seats)[:, None]
    owner = np.zeros(running.shape, np.int32)
    for number, place in enumerate(places_of(num_seats)):
        owner[place] = pool.of_place(number)
    waiting = [iter(its) for its in episodes]
    left = np.array([len(its) for its in episodes])
    while True:
        free = np.argwhere(is_seat & ~running & (left > 0)[:, None]).tolist()
        beginning: set[int] = set()
        for team, seat in free:
            number = next(waiting[team], None)
            if number is not None:
                following[team, seat], running[team, seat] = number, True
                left[team] -= 1
                beginning.add(int(owner[team, seat]))
        pool.tell(BEGIN, sorted(beginning))
        stepping = np.unique(owner[running]).tolist()
        if not stepping:
            return
        # a copy: it is written over while an accelerator, or what came of it, may still look at it
        for agent, actions in act(seats.copy()).items():
            views[f"action {agent}"][...] = actions
        pool.tell(STEP, stepping)


@contextlib.contextmanager
def _shared(outline: Outline) -> Iterator[tuple[SharedMemory, dict[str, np.ndarray]]]:
    """Arrays in a segment of memory for processes to share."""
    memory = SharedMemory(create=True, size=max(1, _size(outline)))
    views = _views(memory, outline)
    try:
        yield memory, views
    finally:
        views.clear()
        with contextlib.suppress(FileNotFoundError):  # it has been given back already
            memory.unlink()
        with contextlib.suppress(BufferError):  # an error on its way out may still look at it
            memory.close()


def _size(outline: Outline) -> int:
    return sum(
        -(-np.dtype(kind).itemsize * int(np.prod(shape)) // ALIGNED) * ALIGNED for kind, shape in outline.values()
    )


def _views(memory: SharedMemory, outline: Outline) -> dict[str, np.ndarray]:
    views, start = {}, 0
    for name, (kind, shape) in outline.items():
        views[name] = np.ndarray(shape, kind, memory.buf, start)
        start += _size({name: (kind, shape)})
    return views


def _heard(connection: Connection, process: BaseProcess) -> Any:
    """What a process answers: nothing, something, or an error, which is raised here."""
    try:
        if connection.recv_bytes() == FINE:
            return None
        told = connection.recv()
    except (EOFError, OSError):
        raise MarlineError(_ended(process)) from None
    if isinstance(told, MarlineError):
        raise told
    return told


def _ended(process: BaseProcess) -> str:
    return f"a process that stepped environments {end_of(process)}; what was computed is kept, begin again to go on"


def _work(parent: Connection, trusted: Sequence[str]) -> None:
    """The life of a process: no keyboard, no accelerator, no longer than its parent's."""
    for number in (signal.SIGINT, signal.SIGHUP):  # of the terminal: its parent ends it in order
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    jax.config.update("jax_platforms", "cpu")  # should an environment use JAX
    plugins.trust(trusted)
    while True:
        try:
            order = parent.recv()
            _take_part(parent, order)
        except (EOFError, OSError):  # of the pipe: the parent is gone
            return
        except MarlineError as error:
            _tell(parent, type(error)(str(error)))
        except Exception:  # its parent must be told whatever goes wrong
            text = f"a process that stepped environments failed:\n{traceback.format_exc()}"
            _tell(parent, MarlineError(text))


def _tell(parent: Connection, content: object) -> None:
    parent.send_bytes(TOLD)
    parent.send(content)


def _take_part(parent: Connection, order: Order) -> None:
    """Step the environments of some places until the play is over."""
    memory = SharedMemory(order.memory)
    views = _views(memory, order.outline)
    try:
        finished = _step(parent, order, views)
        _tell(parent, finished)
    finally:
        views.clear()
        with contextlib.suppress(BufferError):
            memory.close()


def _step(parent: Connection, order: Order, views: Mapping[str, np.ndarray]) -> list[tuple[int, int, Played]]:
    task = order.task
    environments = {place: environment_of(task, number) for number, place in enumerate(order.places)}
    seats, following, running = Seats.on(views, task.specs), views["next"], views["running"]
    actions = {agent: views[f"action {agent}"] for agent in task.agents}
    games: dict[Place, Game] = {}
    finished: list[tuple[int, int, Played]] = []
    parent.send_bytes(FINE)
    while (told := parent.recv_bytes()) != FINISH:
        if told == BEGIN:
            for place in order.places:
                if following[place] != NOBODY:
                    games[place] = Game(task, environments[place], int(following[place]), order.words[place[0]], None)
                    following[place] = NOBODY
                    seats.see(*place, games[place])
        else:
            # copies: what is shared will be written over
            chosen = {
                place: {agent: actions[agent][place].copy() for agent in game.present} for place, game in games.items()
            }
            for place, game in games.items():
                game.begin(chosen[place])
            for place, game in list(games.items()):
                game.step(chosen[place])
                if game.present:
                    seats.see(*place, game)
                else:
                    game.close()
                    finished.append((place[0], game.number, Played(game.transitions, game.total)))
                    running[place] = False
                    del games[place]
        parent.send_bytes(FINE)
    return finished
