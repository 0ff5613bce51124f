"""ONNX graphs, node by node: what the networks of `nn` become, batched over observations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from jaxtyping import Array
from onnx import helper, numpy_helper

from marline.data.normalization import Normalizer
from marline.nn.mlp import MLP, Linear

OPSET, IR_VERSION = 17, 8  # of the same release of ONNX, in 2022: runtimes since then read it
BATCH = "batch"


class Tensor(NamedTuple):
    """Type of an input or output, and its shape behind the batch axis."""

    dtype: str
    shape: tuple[int, ...]


class Graph:
    """Collects nodes; values are known by their names, and the same calls make the same bytes.

    Args:
        rounding: if positive, whatever enters a product or a choice is off by a random part of itself,
            at most this large and different on every run: a graph to learn what hangs on rounding.
    """

    def __init__(self, *, rounding: float = 0.0) -> None:
        self._rounding = rounding
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def input(self, name: str, dtype: str, *shape: int) -> str:
        """What the caller feeds, `[batch, *shape]`."""
        self.inputs[name] = Tensor(dtype, shape)
        return name

    def output(self, value: str, name: str, dtype: str, *shape: int) -> None:
        """What the caller gets, `[batch, *shape]`."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name))
        self.outputs[name] = Tensor(dtype, shape)

    def constant(self, value: np.ndarray | Array | list[int] | float) -> str:
        """An array that is part of the graph; whole numbers become int64, others float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: int | float) -> str:
        """The one output of a new node."""
        name = f"{operator}_{len(self._nodes)}"
        node = helper.make_node(operator, list(inputs), [name], name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self._nodes.append(node)
        return name

    def concatenate(self, *values: str) -> str:
        """Along the last axis."""
        return self.node("Concat", *values, axis=-1)

    def linear(self, layer: Linear, x: str) -> str:
        """An affine map of the last axis."""
        product = self.node("MatMul", self._rounded(x), self.constant(layer.weight))
        return self.node("Add", product, self.constant(layer.bias))

    def mlp(self, network: MLP, x: str) -> str:
        """A perceptron on the last axis."""
        for layer in network.layers[:-1]:
            x = self.node("Relu", self.linear(layer, x))
        return self.linear(network.layers[-1], x)

    def normalize(self, normalizer: Normalizer, x: str) -> str:
        """(x - mean) / scale."""
        centred = self.node("Sub", x, self.constant(normalizer.mean))
        return self.node("Div", centred, self.constant(normalizer.scale))

    def argmax(self, values: str, *, axis: int) -> str:
        """The index of the largest along an axis, which goes; the first of equals."""
        return self.node("ArgMax", self._rounded(values), axis=axis, keepdims=0)

    def clip(self, x: str, low: float, high: float) -> str:
        """Entries below `low` or above `high` are cut to them."""
        return self.node("Clip", x, self.constant(low), self.constant(high))

    def _rounded(self, x: str) -> str:
        if not self._rounding:
            return x
        low, high = 1.0 - self._rounding, 1.0 + self._rounding
        return self.node("Mul", x, self.node("RandomUniformLike", x, low=low, high=high, seed=float(len(self._nodes))))

    def serialize(self) -> bytes:
        """The model, found well-formed by ONNX's own checker."""
        graph = helper.make_graph(
            self._nodes, "policy", _describe(self.inputs), _describe(self.outputs), self._constants
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name="marline")
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def _describe(tensors: dict[str, Tensor]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [BATCH, *shape])
        for name, (dtype, shape) in tensors.items()
    ]
