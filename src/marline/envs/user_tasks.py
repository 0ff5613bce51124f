"""Tasks in code of the user's, named as MODULE:NAME: imported only when the user says that it is trusted."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

from marline import plugins
from marline.envs.checked import require_task
from marline.envs.parallel import ParallelTask, as_parallel
from marline.envs.task import Task
from marline.errors import ConfigError, MarlineError, require
from marline.inputs.options import with_options, write_difference
from marline.inputs.users_code import require_theirs, told, users_code


def load(name: str, options: Mapping[str, Any] | None = None) -> Task:
    """Import and run what MODULE:NAME means: a task, its type, or a function that makes one or an environment.

    Args:
        name: must be trusted.
        options: fields of the task; of an environment those of `ParallelTask`.

    Raises:
        ConfigError: there is no such thing, or it is something else.
    """
    options = dict(options or {})
    found = plugins.load(name, "task")
    if isinstance(found, Task) and not isinstance(found, type):
        made = found
    elif isinstance(found, type) and dataclasses.is_dataclass(found) and options:
        made = _called(name, functools.partial(found, **options))
        require(isinstance(made, Task), f"task {name!r} is no task: see marline.testing.check_task")
        options = {}
    else:
        told = f"task {name!r} is {found!r}, but must be a function that makes an environment, or a task"
        require(callable(found), told)
        made = _called(name, found)
        if not isinstance(made, Task):
            with users_code(f"task {name!r}: what was made"):
                as_parallel(made).close()
            made = ParallelTask(found, description=f"what {name} makes")
    require_task(made, name)
    return with_options(made, options, name) if options else made


def name(task: Task) -> str:
    """MODULE:NAME(OPTION=VALUE, ...) of a task that was made in Python, which is trusted from now on.

    Raises:
        ConfigError: it could not be found again, or would be another.
    """
    if isinstance(task, ParallelTask):
        made_by = task.make_env
        kind = f"{getattr(made_by, '__module__', '')}:{getattr(made_by, '__qualname__', '')}"
        usual = ParallelTask(made_by, description=f"what {kind} makes")
        described = dataclasses.replace(task, description=usual.description)
    else:
        kind = plugins.name_of(type(task))
        plugins.register(type(task))
        usual, described = _called(kind, type(task)), task
    module, _, attribute = kind.partition(":")
    where = getattr(sys.modules.get(module), attribute, None)
    require(
        where is (task.make_env if isinstance(task, ParallelTask) else type(task)),
        f"{kind} cannot be found again by its name, so no run could go on with it; move it to the top of a module",
    )
    plugins.trust([kind])
    return write_difference(kind, usual, described)


def _called(name: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except MarlineError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code, which may raise anything
        require_theirs(error)
        attribute = name.partition(":")[2]
        raise ConfigError(f"task {name!r}: {attribute}() must make it without arguments: {told(error)}") from error
