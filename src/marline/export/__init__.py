"""Policies for machines without JAX: ONNX graphs, and the bundles they travel in."""

from __future__ import annotations

from marline.errors import ConfigError

try:
    import onnx as onnx
    import onnxruntime as onnxruntime
except ModuleNotFoundError as error:
    raise ConfigError(
        f"exporting needs the package {error.name}, which is not installed: pip install 'marline[export]'"
    ) from error
