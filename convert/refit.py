"""Give a converted classifier another head; all before it stays bit for bit as it is.

The head is the last matrix before the softmax. The heat map (`convert.heat_map`) has the same weights and
changes with it.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from tensorflow.lite.python.schema_py_generated import BuiltinOperator
from tensorflow.lite.tools import flatbuffer_utils

from convert.scores import is_kind
from edge.classify import Classifier
from edge.errors import UserError
from edge.modelfile import without_chatter
from training.head import Matrix

_GREATEST = 127
"""Of an INT8 weight, to each side: weights have no zero point."""
_ROOM = 1.1
"""The scores may lie this much wider than what was seen."""


class OpenFile:
    """A converted classifier, open before its head.

    Args:
        path: of a file that `convert.quantize` made, its card beside it.

    Raises:
        UserError: it is another one, or not the one that its card describes.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.card = path, Classifier(path).card
        self._content = path.read_bytes()
        try:
            parts = _Parts(self._content)
            self.head, self.embedding = parts.matrix(parts.head), parts.matrix(parts.embedding)
        except (AttributeError, IndexError, StopIteration, TypeError, ValueError):
            raise UserError(
                f"{path}: no head is found in it; convert the model with convert.quantize"
            ) from None
        with without_chatter():
            # As the instrument computes them, by the same delegate.
            self._runtime = Interpreter(model_content=parts.content_with_features())
            self._runtime.allocate_tensors()
        self._features = parts.features
        self.step, self._zero = parts.scale(parts.features)
        """The features are whole multiples of it."""

    def features(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what the head reads of crops, shape (n, size, size, 3) RGB: shape (n, channels)."""
        given = self._runtime.get_input_details()[0]["index"]
        steps = []
        for crop in crops:
            self._runtime.set_tensor(given, crop[None])
            self._runtime.invoke()
            steps.append(self._runtime.get_tensor(self._features)[0].astype(np.float32) - self._zero)
        return np.stack(steps) * np.float32(self.step)

    def with_head(self, head: Matrix, features: NDArray[np.float32]) -> bytes:
        """Return the content of the file with another head.

        Args:
            head: of as many inputs and outputs as the one that it has.
            features: of cells that it will see, shape (cells, channels), which set the range of its scores.
        """
        parts = _Parts(self._content)
        kernel, bias = head
        wider = float(np.abs(kernel).max() / np.abs(self.head[0]).max())
        parts.put(head, _ROOM * (features @ kernel + bias), wider)
        with io.BytesIO(parts.content()) as file:
            # The class names lie in an archive behind the model, see `convert.metadata`.
            with zipfile.ZipFile(io.BytesIO(self._content)) as old, zipfile.ZipFile(file, "a") as new:
                for entry in old.infolist():
                    new.writestr(entry, old.read(entry))
            return file.getvalue()


class _Parts:
    """The head of a file, and what is read beside it, in the file's own tables."""

    def __init__(self, content: bytes) -> None:
        self._model: Any = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
        self._tensors = self._model.subgraphs[0].tensors
        operations = self._model.subgraphs[0].operators
        softmax = next(op for op in operations if is_kind(self._model, op, BuiltinOperator.SOFTMAX))
        self.head = next(op for op in operations if op.outputs[0] == softmax.inputs[0])
        self._told = next(op for op in operations if op.inputs[0] == softmax.inputs[0] and op is not softmax)
        self.features = int(self.head.inputs[0])
        (self.embedding,) = (op for op in operations if op.inputs[0] == self.features and op is not self.head)
        pooling = next(op for op in operations if op.outputs[0] == self.features)
        (self._heat,) = (
            op
            for op in operations
            if op.inputs[0] == pooling.inputs[0] and is_kind(self._model, op, BuiltinOperator.CONV_2D)
        )
        self._drawn = next(op for op in operations if op.inputs[0] == self._heat.outputs[0])

    def content(self) -> bytes:
        """Return the model as a file has it."""
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))

    def content_with_features(self) -> bytes:
        """Return the model with the features as an output more."""
        graph = self._model.subgraphs[0]
        outputs = graph.outputs
        graph.outputs = np.append(outputs, np.int32(self.features))
        try:
            return self.content()
        finally:
            graph.outputs = outputs

    def scale(self, tensor: int) -> tuple[float, int]:
        """Return what a step of an activation is worth, and which number is zero."""
        found = self._tensors[tensor].quantization
        return float(found.scale[0]), int(found.zeroPoint[0])

    def matrix(self, operation: Any) -> Matrix:
        """Return the weights of a linear layer."""
        kernel, bias = (self._tensors[i] for i in operation.inputs[1:3])
        weights = self._buffer(kernel).data.view(np.int8).reshape(kernel.shape).T
        added = self._buffer(bias).data.view(np.int32)
        return (
            np.asarray(weights * kernel.quantization.scale, np.float32),
            np.asarray(added * bias.quantization.scale, np.float32),
        )

    def put(self, head: Matrix, scores: NDArray[np.float32], wider: float) -> None:
        """Replace the head, for the range of these `scores`, and the heat map, whose range is `wider`."""
        real, offset = head
        steps = np.maximum(np.abs(real).max(axis=0), 1e-9).astype(np.float32) / _GREATEST
        weights = np.rint(real / steps).T.astype(np.int8)
        for operation in (self.head, self._heat):
            kernel, bias = (self._tensors[i] for i in operation.inputs[1:3])
            kernel.quantization.scale = steps
            self._buffer(kernel).data = weights.reshape(-1).view(np.uint8)
            bias.quantization.scale = steps * np.float32(self.scale(operation.inputs[0])[0])
        added = self._tensors[self.head.inputs[2]]
        rounded = np.rint(offset / added.quantization.scale).astype(np.int32)
        self._buffer(added).data = rounded.view(np.uint8)
        least, greatest = min(float(scores.min()), 0.0), max(float(scores.max()), 0.0)
        step = np.array([max(greatest - least, 1e-6) / 255], np.float32)
        for tensor, lowest in ((self.head.outputs[0], -128), (self._told.outputs[0], 0)):
            said = self._tensors[tensor].quantization
            said.scale, said.zeroPoint = step, np.rint(lowest - least / step).astype(np.int64)
        for tensor in (self._heat.outputs[0], self._drawn.outputs[0]):
            self._tensors[tensor].quantization.scale *= np.float32(wider)

    def _buffer(self, tensor: Any) -> Any:
        return self._model.buffers[tensor.buffer]
