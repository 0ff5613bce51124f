"""Packages that only some formats need."""

from __future__ import annotations

import importlib
from typing import Any

from marline.errors import ConfigError


def require_package(name: str, what: str, extra: str) -> Any:
    """The imported package; `ConfigError` that says how to install it otherwise."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{what} need {name}, which is not installed: pip install 'marline[{extra}]'") from error
