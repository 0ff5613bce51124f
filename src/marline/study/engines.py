"""The engines by name: processes of this machine, or a Ray cluster."""

from __future__ import annotations

from marline.errors import require, require_name
from marline.study.engine import Engine
from marline.study.local_engine import LocalEngine

ENGINES = ("local", "ray")


def make_engine(name: str, address: str | None = None) -> Engine:
    """An engine by its name; `ConfigError` where what it needs is not installed or does not answer.

    Args:
        name: `local` or `ray`.
        address: of the Ray cluster, see `ray.connected`.
    """
    require_name(name, ENGINES, "engine")
    if name == "ray":
        from marline.study.ray_engine import RayEngine  # and Ray

        return RayEngine(address)
    require(address is None, "--address is that of a Ray cluster; add --engine ray")
    return LocalEngine()
