"""What the page gets to see as JSON: views, maps and cells, with their pictures as JPEG in base64."""

import base64
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np

from edge.cells import Cell, CellClass, Image
from edge.live import View
from edge.mosaic import MapView
from edge.preprocess import CONTEXT
from edge.report import whys

MAX_SIDE_PX = 960
"""Longest side of a picture on the page; a larger frame is scaled down."""
JPEG_QUALITY = 82
CELLS_SHOWN = 50


def encode_event(view: View) -> bytes:
    """Return a view as one server-sent event: state, boxes and the JPEG that they belong to.

    A label's heat (rows of percent) covers the square that the model saw: `context` times the box's longer
    side, round its centre.
    """
    event: dict[str, Any] = {"state": dict(view.state), "labels": [], "size": None, "jpeg": None}
    event["context"] = CONTEXT
    scale = 1.0
    if view.image is not None:
        scale = min(1.0, MAX_SIDE_PX / max(view.image.shape[:2]))
        size = tuple(max(1, round(length * scale)) for length in view.image.shape[1::-1])
        picture = view.image if scale == 1.0 else cv2.resize(view.image, size, interpolation=cv2.INTER_AREA)
        event["size"], event["jpeg"] = size, _jpeg(np.asarray(picture, np.uint8))
    for label in view.labels:
        box = (label.box.x, label.box.y, label.box.width, label.box.height)
        sure = None if label.confidence is None else float(label.confidence)
        shown = {"name": label.name, "confidence": sure, "number": label.number}
        heat = None if label.heat is None else np.rint(100 * label.heat).astype(int).tolist()
        rounded = [round(float(length) * scale, 1) for length in box]
        event["labels"].append({"box": rounded, **shown, "heat": heat})
    return f"data: {json.dumps(event, allow_nan=False)}\n\n".encode()


def _jpeg(image: Image) -> str:
    """Return an image as JPEG in base64."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return base64.b64encode(data.tobytes()).decode("ascii")


def encode_map(view: MapView, classes: Sequence[CellClass]) -> dict[str, Any]:
    """Return a map ready for JSON: its picture (JPEG, base64), where that lies on the slide, the cells.

    Args:
        view: the map.
        classes: of the model, in order.
    """
    cells = [
        {
            "number": cell.number,
            "name": cell.name,
            "confidence": round(cell.confidence, 3),
            "review": cell.review,
            "named": cell.namings > 0,
            "why": whys(cell, classes),
            "slide": [round(place, 1) for place in cell.slide],
            "side": round(cell.box.side, 1),
        }
        for cell in view.cells
    ]
    return {
        "jpeg": _jpeg(view.image),
        "size": list(view.image.shape[1::-1]),
        "origin": list(view.origin),
        "scale": view.scale,
        "cells": cells,
    }


def encode_decisions(cells: Iterable[Cell], classes: Sequence[CellClass]) -> list[dict[str, Any]]:
    """Return of each cell what the page compares with the one that it shows, ready for JSON."""
    return [
        {
            "number": cell.number,
            "name": cell.name,
            "review": cell.review,
            "namings": cell.namings,
            "why": whys(cell, classes),
        }
        for cell in cells
    ]


def encode_cells(cells: Iterable[Cell], classes: Sequence[CellClass]) -> list[dict[str, Any]]:
    """Return cells ready for JSON, each with the sharpest crop of it (JPEG, base64).

    "instrument" is the class of which "confidence" is the probability, whatever a person named the cell.

    Args:
        cells: in the order of their counting; of more than `CELLS_SHOWN` the first.
        classes: of the model, in order.
    """
    some = list(islice(cells, CELLS_SHOWN))
    return [
        decision
        | {
            "confidence": round(cell.confidence, 3),
            "instrument": classes[int(cell.probabilities.argmax())].name,
            "source": cell.source,
            "jpeg": base64.b64encode(cell.crop).decode("ascii"),
        }
        for cell, decision in zip(some, encode_decisions(some, classes), strict=True)
    ]
