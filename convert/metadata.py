"""What a `.tflite` file says of itself: classes, input, licence, in the format that other tools read.

TFLite metadata (metadata_schema.fbs of TensorFlow Lite Support, file identifier M001) is a flatbuffer in a
buffer of the model called TFLITE_METADATA; the class names are a text file in a ZIP archive behind the
model. Netron, MediaPipe and the LiteRT tools read both, and runtimes pass over both.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from convert.fold import MIDDLE
from edge.classify import LABELS, SCORES

_NAME = b"TFLITE_METADATA"
_IDENTIFIER = b"M001"
_VALUE_LABELS, _AXIS_LABELS = 3, 2
"""AssociatedFileType: names of a vector's places, and of an axis."""
_IMAGE_PROPERTIES, _RGB = 2, 1
"""Of the union ContentProperties, and of ColorSpaceType."""
_NORMALIZATION = 1
"""Of the union ProcessUnitOptions."""

Fields = Mapping[int, tuple[str, int]]
"""Slot of a table -> kind ("offset" or "int8") and value."""


def describe(content: bytes, card: Mapping[str, Any]) -> bytes:
    """Return a model file with its metadata and class names; a run of it stays the same.

    Args:
        content: of a .tflite file with the outputs that the card tells.
        card: name, notice, licence, created, input and classes, as in the model's card.
    """
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    outputs = [model.subgraphs[0].tensors[i] for i in model.subgraphs[0].outputs]
    buffer = schema.BufferT()
    buffer.data = list(_metadata(card, outputs))
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    with io.BytesIO(bytes(flatbuffer_utils.convert_object_to_bytearray(model))) as file:
        with zipfile.ZipFile(file, "a") as archive:
            names = "".join(f"{c['name']}\n" for c in card["classes"])
            archive.writestr(zipfile.ZipInfo(LABELS), names)  # of 1980: the same card gives the same bytes
        return file.getvalue()


def _metadata(card: Mapping[str, Any], outputs: Sequence[Any]) -> bytes:
    """Return the flatbuffer; `outputs` are the file's tensors, in its order."""
    builder = flatbuffers.Builder(1024)
    described = [_output(builder, tensor, len(card["classes"])) for tensor in outputs]
    subgraph = _table(
        builder,
        {2: _vector(builder, [_input(builder, card["input"])]), 3: _vector(builder, described)},
    )
    texts = {
        0: card["name"],
        1: f"Classifies a leukocyte. {card['notice']}",
        2: card["created"],
        5: card["licence"],
        7: "1.0.0",  # the oldest parser that knows all that is used here
    }
    strings = {slot: ("offset", builder.CreateString(text)) for slot, text in texts.items()}
    root = _table(builder, {**strings, 3: _vector(builder, [subgraph])})
    builder.Finish(root, file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _input(builder: flatbuffers.Builder, text: str) -> int:
    image = _table(builder, {0: ("int8", _RGB)})
    content = _table(builder, {0: ("int8", _IMAGE_PROPERTIES), 1: ("offset", image)})
    # In real numbers the file takes grey levels less the middle one; by its scale and zero point these are
    # the bytes 0..255 again.
    centred = _table(builder, {0: _floats(builder, [float(MIDDLE)]), 1: _floats(builder, [1.0])})
    unit = _table(builder, {0: ("int8", _NORMALIZATION), 1: ("offset", centred)})
    stats = _table(builder, {0: _floats(builder, [255.0]), 1: _floats(builder, [0.0])})
    return _table(
        builder,
        {
            0: ("offset", builder.CreateString("image")),
            1: ("offset", builder.CreateString(text)),
            3: ("offset", content),
            4: _vector(builder, [unit]),
            5: ("offset", stats),
        },
    )


def _output(builder: flatbuffers.Builder, tensor: Any, classes: int) -> int:
    rank, of_classes = len(tensor.shape), int(tensor.shape[-1]) == classes
    if rank > 2:
        name, text = "heat", "How much each place speaks for each class"
    elif tensor.name == SCORES.encode():
        name, text = SCORES, "What the probabilities are made of, by a softmax"
    elif of_classes:
        name, text = "probability", "Of each class"
    else:
        name, text = "embedding", "Distance to the means of the card tells how strange a cell is"
    fields: dict[int, tuple[str, int]] = {
        0: ("offset", builder.CreateString(name)),
        1: ("offset", builder.CreateString(text)),
    }
    if of_classes:
        kind = _AXIS_LABELS if rank > 2 else _VALUE_LABELS
        file = {0: ("offset", builder.CreateString(LABELS)), 2: ("int8", kind)}
        fields[6] = _vector(builder, [_table(builder, file)])
    return _table(builder, fields)


def _table(builder: flatbuffers.Builder, fields: Fields) -> int:
    builder.StartObject(max(fields) + 1)
    for slot, (kind, value) in fields.items():
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        else:
            builder.PrependInt8Slot(slot, value, 0)
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> tuple[str, int]:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return "offset", int(builder.EndVector())


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> tuple[str, int]:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return "offset", int(builder.EndVector())
