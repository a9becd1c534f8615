"""A `.tflite` file, checked against what its card says of it, and run.

The only module of the edge that imports the interpreter: ai-edge-litert, or tflite-runtime where that
alone is installed.
"""

import hashlib
import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.cells import Image
from edge.errors import UserError

_INTERPRETERS = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


class ModelFile:
    """A network that is ready to run.

    Args:
        file: of TFLite, uint8 or float at its ends.
        sha256: that the card tells of it.
        size: side of its input, pixels.
        outputs: shapes by the names that the caller gives them; of two of one shape the file has one by name.

    Raises:
        UserError: the file is missing, is not the one that the card describes, or does not run.
    """

    def __init__(self, file: Path, sha256: str, size: int, outputs: Mapping[str, tuple[int, ...]]) -> None:
        self._interpreter = _load(file, sha256)
        self._input = self._interpreter.get_input_details()[0]
        _agree(file, "input", self._input, (1, size, size, 3))
        self._outputs = _outputs(file, self._interpreter.get_output_details(), outputs)

    def run(self, image: Image) -> None:
        """See one image, shape (size, size, 3) RGB."""
        self._interpreter.set_tensor(self._input["index"], image[None].astype(self._input["dtype"]))
        self._interpreter.invoke()

    def read(self, name: str) -> NDArray[np.float32]:
        """Return an output for the last image, in real numbers, without the axis of the batch."""
        output = self._outputs[name]
        raw = self._interpreter.get_tensor(output["index"])[0].astype(np.float32)
        scale, zero = output["quantization"]
        # A float file has no scale.
        return np.asarray((raw - zero) * np.float32(scale), np.float32) if scale else raw


def _load(model: Path, sha256: str) -> Any:
    try:
        content = model.read_bytes()
    except OSError as error:
        raise UserError(f"{model}: {error.strerror}; a card needs its .tflite file beside it") from None
    # Before the runtime sees it: a damaged file can end the process.
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(
            f"{model}: sha256 {found[:12]} found, its card says {sha256[:12]}; the file is damaged "
            "or not this card's: copy both again, or convert the model again"
        )
    try:
        with without_chatter():
            interpreter = _interpreter_class()(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{model}: the runtime refuses the file ({error}); convert the model again") from None
    return interpreter


_terminal = threading.Lock()
"""Held while standard error is elsewhere: it is one for all threads."""


@contextmanager
def without_chatter() -> Iterator[None]:
    """Keep the lines that the runtime marks INFO off standard error; no setting of its own does."""
    with suppress(OSError):
        sys.stderr.flush()
    with _terminal, tempfile.TemporaryFile() as said:
        terminal = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            said.seek(0)
            told = b"".join(line for line in said if not line.startswith(b"INFO: "))
            with suppress(OSError):
                os.write(2, told)


def _interpreter_class() -> Any:
    for name in _INTERPRETERS:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise UserError("no TFLite runtime is installed; run: pip install ai-edge-litert")


def _outputs(
    model: Path, found: Sequence[Mapping[str, Any]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Mapping[str, Any]]:
    """Return the outputs by name, or else by their shapes: the converter keeps neither order nor names."""
    if len(found) != len(shapes):
        raise UserError(
            f"{model}: {len(found)} outputs, the card says {len(shapes)}; convert the model again, or fit it "
            "again where training.adapt made it"
        )
    outputs = {}
    named = {str(o["name"]): o for o in found if o["name"] in shapes}
    others = [o for o in found if o["name"] not in shapes]
    for name, shape in shapes.items():
        fitting = [o for o in others if tuple(int(n) for n in o["shape"]) == shape]
        outputs[name] = named.get(name) or (fitting or list(found))[0]
        _agree(model, "output", outputs[name], shape)
    if len({o["index"] for o in outputs.values()}) < len(outputs):
        raise UserError(f"{model}: of {', '.join(outputs)} two are one output; convert the model again")
    return outputs


def _agree(model: Path, what: str, tensor: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    found = tuple(int(n) for n in tensor["shape"])
    if found != shape or tensor["dtype"] not in (np.uint8, np.float32):
        raise UserError(
            f"{model}: {what} is {tensor['dtype'].__name__} {found}, the card says uint8 {shape}; "
            "convert the model again"
        )
