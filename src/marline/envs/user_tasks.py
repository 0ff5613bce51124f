"""Tasks in code of the user's, named as MODULE:NAME: imported only when the user says that it is trusted."""

from __future__ import annotations

import importlib
import os
import sys
import traceback

from marline.envs.parallel import ParallelTask, as_parallel
from marline.envs.task import Task
from marline.errors import ConfigError, MarlineError, require, require_name


def load(name: str) -> Task:
    """Import and run what MODULE:NAME means: a task, or a function of no arguments that makes one or an environment.

    Modules are looked for in the working directory too.

    Raises:
        ConfigError: there is no such thing, or it is something else.
    """
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"task {name!r}: {module_name} cannot be imported ({error}); call marline where "
            f"{module_name.partition('.')[0]}.py is, or install what is missing"
        ) from error
    except Exception as error:  # it is the user's code, which may raise anything
        raise ConfigError(f"task {name!r}: {module_name} fails when imported: {_told(error)}") from error
    public = [word for word in vars(module) if not word.startswith("_")]
    require_name(attribute, public, f"name in {module_name}")
    found = getattr(module, attribute)
    if isinstance(found, Task) and not isinstance(found, type):
        return found
    require(callable(found), f"task {name!r} is {found!r}, but must be a function that makes an environment, or a task")
    try:
        made = found()
    except MarlineError:
        raise
    except Exception as error:  # and so may this
        raise ConfigError(f"task {name!r}: {attribute}() must make it without arguments: {_told(error)}") from error
    if isinstance(made, Task):
        return made
    as_parallel(made).close()
    return ParallelTask(found, description=f"what {name} makes")


def _told(error: Exception) -> str:
    """What went wrong in code of the user's, and where."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno})"
