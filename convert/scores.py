"""Let an integer file tell the scores that it makes its probabilities of: an output more.

The eight bits of a probability end at 1/256, so that of a sure answer all other classes are 0, and alike:
which of the study's five an immature granulocyte looks most like is then lost. The scores hold it.
"""

import copy
from typing import Any

import numpy as np
from tensorflow.lite.python.schema_py_generated import BuiltinOperator, TensorType
from tensorflow.lite.tools import flatbuffer_utils

from edge.classify import SCORES


def with_scores(content: bytes) -> bytes:
    """Return a model file with the input of its softmax as its last output, of the type that the others have.

    Args:
        content: of a full-integer or a float file with one softmax.
    """
    model: Any = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    graph = model.subgraphs[0]
    (softmax,) = (op for op in graph.operators if is_kind(model, op, BuiltinOperator.SOFTMAX))
    place = int(softmax.inputs[0])
    # From int8 to uint8, as the converter does it with the other outputs; those of a float file stay.
    for asked in [op for op in graph.operators if op.inputs[0] == softmax.outputs[0]]:
        tensor, told = copy.deepcopy(graph.tensors[place]), copy.copy(asked)
        tensor.type = TensorType.UINT8
        tensor.quantization.zeroPoint = tensor.quantization.zeroPoint + 128
        told.inputs = np.array([place], np.int32)
        place = len(graph.tensors)
        told.outputs = np.array([place], np.int32)
        graph.tensors.append(tensor)
        graph.operators.append(told)
    graph.tensors[place].name = SCORES.encode()
    graph.outputs = np.append(graph.outputs, np.int32(place))
    for signature in model.signatureDefs or ():
        named = copy.copy(signature.outputs[0])
        named.name, named.tensorIndex = SCORES.encode(), place
        signature.outputs.append(named)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def is_kind(model: Any, operation: Any, kind: int) -> bool:
    """Return whether an operation of a model's tables is of this kind (`BuiltinOperator`)."""
    code = model.operatorCodes[operation.opcodeIndex]
    # Files of old and of new converters have it in one or the other.
    return bool(max(code.builtinCode, code.deprecatedBuiltinCode) == kind)
