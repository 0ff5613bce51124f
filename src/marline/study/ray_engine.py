"""The engine of many machines: the parts of a study run wherever a Ray cluster has a core to spare.

A part is the offline training of one seed, or one of its samplers. The run directory stays where marline was called,
and the process that was called alone writes to it, so machines need not share a disk: a part is given the files that
it goes on from, works in a scratch folder of its machine, and sends back what it publishes. A part whose worker or
machine is lost starts again from what had come back.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, no_type_check

from marline import plugins
from marline.configuration.run_config import RunConfig
from marline.data.checkpoints import versions
from marline.data.dataset import Dataset
from marline.data.files import atomic_bytes
from marline.data.scratch import scratch_directory
from marline.errors import MarlineError
from marline.runs.history import History
from marline.runs.layout import RunDirectory
from marline.runs.offline_logs import prepare_data
from marline.study import execution as study
from marline.study import ray_cluster as cluster
from marline.study import transfer
from marline.study.engine import Progress
from marline.study.transfer import Published
from marline.types import AgentID

MOST_LOSSES = 3  # of one part, with no news of it in between


class Part(NamedTuple):
    """Something that one worker does from its beginning to its end."""

    seed: int
    sampler: str | None  # None is the offline training

    @property
    def place(self) -> str:
        """Where its history lies in the run directory."""
        return RunDirectory(Path()).team(self.seed, self.sampler).as_posix()


class Order(NamedTuple):
    """What a worker is told.

    Attributes:
        part: what to do.
        config: of the study.
        given: histories to go on from, by place.
        pinned: files of the run directory that checkpoints tell the hashes of, by place.
        trusted: code of the user's own that the user said to trust.
        versions: that the worker must have.
    """

    part: Part
    config: RunConfig
    given: Mapping[str, Sequence[Published]]
    pinned: Mapping[str, bytes]
    trusted: Sequence[str]
    versions: cluster.Versions


class News(NamedTuple):
    """What comes back from a worker, again and again.

    Attributes:
        text: what is going on.
        updates: done so far, with those that it began with.
        published: since the last news.
    """

    text: str
    updates: int
    published: Sequence[Published]


@dataclasses.dataclass(frozen=True)
class RayEngine:
    """Runs studies over the Ray cluster at an address, see `cluster.connected`."""

    address: str | None = None

    def __post_init__(self) -> None:
        cluster.require_ray()
        cluster.require_answer(self.address)

    def plan(self, seeds: Sequence[int]) -> list[list[int]]:
        """A share per seed: where its parts run is for Ray to say."""
        return [[seed] for seed in seeds]

    def run(self, folder: Path, config: RunConfig, shares: Sequence[Sequence[int]], progress: Progress) -> None:
        """See `Engine`."""
        with cluster.connected(self.address):
            under_way = _Run(folder, config, shares, progress)
            try:
                under_way.finish()
            finally:
                under_way.stop()


class _Run:
    """A study while it is computed: which parts wait for others, and which are under way."""

    def __init__(self, folder: Path, config: RunConfig, shares: Sequence[Sequence[int]], progress: Progress) -> None:
        self._ray = cluster.require_ray()
        self._folder, self._config, self._progress = folder, config, progress
        self._share_of = {seed: number for number, share in enumerate(shares) for seed in share}
        self._trusted = tuple(plugins.trusted())
        self._data = self._ray.put(prepare_data(folder, config))  # one copy per machine, read in place
        run = RunDirectory(folder)
        pinned = [path for path in (run.configuration, run.data_list) if path.exists()]
        self._pinned = {path.relative_to(folder).as_posix(): path.read_bytes() for path in pinned}
        self._waiting = [Part(seed, name) for name in (None, *config.samplers) for seed in self._share_of]
        self._running: dict[Any, Part] = {}  # by the stream that its news come in
        self._done: set[Part] = set()
        self._updates, self._losses = Counter[Part](), Counter[Part]()

    def finish(self) -> None:
        while self._waiting or self._running:
            for part in [part for part in self._waiting if self._needs(part) <= self._done]:
                self._waiting.remove(part)
                self._start(part)
            for stream in self._ray.wait(list(self._running), num_returns=1)[0]:
                self._read(stream)

    def stop(self) -> None:
        """Interrupt what is under way, for the connection may be somebody's who goes on using it."""
        for stream in self._running:
            self._ray.cancel(stream)

    def _needs(self, part: Part) -> set[Part]:
        if part.sampler is None:
            return set()
        before = {None, self._config.matches.get(part.sampler)}
        return {Part(part.seed, name) for name in before}

    def _start(self, part: Part) -> None:
        given = {other.place: transfer.pack(self._history(other.place)) for other in (part, *self._needs(part))}
        order = Order(part, self._config, given, self._pinned, self._trusted, versions())
        # no retries of Ray's own: it would begin with what was given at first, we begin with what came back since
        work = self._ray.remote(_stream).options(
            num_cpus=1,
            num_returns="streaming",
            max_retries=0,
            name=part.place,
            runtime_env=cluster.environment(),
            _generator_backpressure_num_objects=1,  # a worker waits until its last news was read
        )
        self._running[work.remote(order, self._data)] = part

    def _read(self, stream: Any) -> None:
        """Take in one piece of news."""
        part = self._running[stream]
        try:
            with cluster.errors_of_workers(part.place):
                news: News = self._ray.get(next(stream))
        except StopIteration:
            del self._running[stream]
            self._done.add(part)
        except self._ray.exceptions.RayError as error:
            del self._running[stream]
            self._losses[part] += 1
            if self._losses[part] > MOST_LOSSES:
                raise MarlineError(
                    f"{part.place} lost its worker {self._losses[part]} times in a row; was it out of memory? {error}"
                ) from None
            self._tell(part, f"{part.place}: its worker was lost, starting again", 0)
            self._start(part)
        else:
            self._losses[part] = 0
            transfer.unpack(self._history(part.place), news.published)
            self._tell(part, news.text, news.updates - self._updates[part])
            self._updates[part] = news.updates

    def _tell(self, part: Part, text: str, updates: int) -> None:
        self._progress(self._share_of[part.seed], text, updates)

    def _history(self, place: str) -> History:
        return History(self._folder / place)


@no_type_check  # the wrapper of a type checker would hide from Ray that this is a generator
def _stream(order, data):
    yield from _work(order, data)


def _work(order: Order, data: Mapping[AgentID, Dataset]) -> Iterator[News]:
    """The life of a worker: run or finish one part."""
    cluster.require_versions(order.versions)
    plugins.trust(order.trusted)
    # which also removes what a killed worker left behind
    with scratch_directory(Path(tempfile.gettempdir(), f"marline-{os.getuid()}")) as scratch:
        scratch.chmod(0o700)  # in a folder that others read too
        for place, content in order.pinned.items():
            atomic_bytes(scratch / place, content)
        for place, given in order.given.items():
            transfer.unpack(History(scratch / place), given)
        outbox = transfer.Outbox(History(scratch / order.part.place))
        text, updates = "", 0
        for text, done in study.run_part(scratch, order.config, data, *order.part):
            updates += done
            yield News(text, updates, outbox.collect())
        yield News(text, updates, outbox.collect())
