"""Several studies in one go: on an accelerator two at a time, so that one learns while the robots of the other move."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from marline.display.console import ProgressDisplay
from marline.errors import INTERRUPTED
from marline.population import stacks
from marline.study.engine import Engine
from marline.study.local_engine import LocalEngine
from marline.study.study import Study, num_updates

AT_ONCE = 2  # one has the accelerator while the other has the cores


def run_all(studies: Sequence[Study], engine: Engine, *, progress: bool = True, log: Sequence[str] = ()) -> None:
    """Compute what is missing of each, in their order; what was done is kept when one fails or is interrupted.

    Args:
        studies: in folders of their own.
        engine: where; on a CPU, which one study fills, and on a cluster they are computed one after another.
        progress: show bars.
        log: see `Study.run`.
    """
    if not stacks() or not isinstance(engine, LocalEngine) or len(studies) == 1:
        for study in studies:
            study.run(engine=engine, progress=progress, log=log)
        return
    shared = LocalEngine(memory_share=engine.memory_share / AT_ONCE)
    stopping = threading.Event()

    def compute(number: int, study: Study) -> None:
        def tell(share: int, text: str, updates: int) -> None:
            if stopping.is_set():
                raise SystemExit(INTERRUPTED)  # in this thread alone; what was done is kept on the way out
            display.advance(number, text, updates)

        study.run(engine=shared, progress=tell, log=log)

    bars = [(study.config.task or "", num_updates(study.config) * len(study.config.seeds)) for study in studies]
    with ProgressDisplay(bars, quiet=not progress) as display, ThreadPoolExecutor(AT_ONCE) as pool:
        under_way = [pool.submit(compute, number, study) for number, study in enumerate(studies)]
        try:
            for done in as_completed(under_way):
                done.result()
        except BaseException:
            stopping.set()
            for waiting in under_way:
                waiting.cancel()
            raise
