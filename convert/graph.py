"""What a `.tflite` file is made of: its operations, its tensors, and how a delegate takes it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edge.cells import Image


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a file."""

    kind: str
    """As the schema names it, e.g. CONV_2D."""
    layer: str
    """First part of its output's name: the Keras layer that it came from."""
    floating: bool
    """True where one of its outputs is a float tensor."""
    output: int
    """Index of its first output tensor."""


class Graph:
    """A file, run by the reference of all delegates: none. Every tensor of the last image can be read."""

    def __init__(self, content: bytes) -> None:
        self._interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._interpreter.allocate_tensors()
        tensors = {t["index"]: t for t in self._interpreter.get_tensor_details()}
        self._tensors: dict[int, dict[str, Any]] = tensors
        self.operations = [
            Operation(
                kind=op["op_name"],
                layer=tensors[op["outputs"][0]]["name"].split(";")[0],
                floating=any(np.issubdtype(tensors[i]["dtype"], np.floating) for i in op["outputs"]),
                output=int(op["outputs"][0]),
            )
            for op in self._interpreter._get_ops_details()
        ]

    def see(self, crop: Image) -> None:
        """Run the file on one crop, shape (size, size, 3) RGB."""
        given = self._interpreter.get_input_details()[0]
        self._interpreter.set_tensor(given["index"], crop[None].astype(given["dtype"]))
        self._interpreter.invoke()

    def values(self, operation: Operation) -> NDArray[np.float32]:
        """Return what an operation yielded for the last crop, in real numbers."""
        scale, zero = self._tensors[operation.output]["quantization"]
        raw = self._interpreter.get_tensor(operation.output).astype(np.float32)
        return np.asarray((raw - zero) * np.float32(scale), np.float32) if scale else raw

    def kinds(self) -> Counter[str]:
        """Return how many operations of each kind there are."""
        return Counter(op.kind for op in self.operations)


@dataclass(frozen=True, slots=True)
class Delegation:
    """How the runtime's delegate (XNNPACK) takes a file."""

    pieces: int
    """Into which it cuts the file; 1 is the best."""
    outside: Counter[str]
    """Operations, by kind, that the runtime itself executes between the pieces or at the ends."""


def delegation(content: bytes) -> Delegation:
    """Return how the delegate takes a file."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    operations = interpreter._get_ops_details()
    pieces = [op for op in operations if op["op_name"] == "DELEGATE"]
    plain = [op for op in operations if op["op_name"] != "DELEGATE"]
    maker = {int(tensor): i for i, op in enumerate(plain) for tensor in op["outputs"]}
    inside: set[int] = set()
    for piece in pieces:
        # Backwards from what the piece yields to what it takes.
        given = {int(tensor) for tensor in piece["inputs"]}
        open_ends = [int(tensor) for tensor in piece["outputs"]]
        while open_ends:
            tensor = open_ends.pop()
            if tensor in given or tensor not in maker or maker[tensor] in inside:
                continue
            inside.add(maker[tensor])
            open_ends += [int(t) for t in plain[maker[tensor]]["inputs"]]
    return Delegation(len(pieces), Counter(op["op_name"] for i, op in enumerate(plain) if i not in inside))
