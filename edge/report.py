"""The result of a count as JSON: the contract that other programs read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np

from edge.cells import Cell, CellClass, Role, Skip
from edge.classify import Card
from edge.differential import differential
from edge.gates import Gates

NOTICE = "For Research Use Only. Not for use in diagnostic procedures."


_SURE = 0.98
"""Confidence with which no class is called unsure; the shipped model's limit is 0.958."""
_WORTH_NAMING = 0.02
"""Probability from which the second likeliest class of an unsure cell is named."""
LEAST_CELLS = 100
"""A differential of fewer is never final, unless the target says that fewer will do."""


class Status(StrEnum):
    """How far a released result may be believed."""

    PRELIMINARY = "preliminary"
    """The count was broken off, too few cells were counted, or some of them still await review."""
    FINAL = "final"
    CORRECTED = "corrected"
    """It replaces one that was final."""


@dataclass(frozen=True, slots=True)
class Report:
    """A released result: what the LIS is told."""

    specimen: str
    version: int
    """From 1; one more with each amendment."""
    status: Status
    started: datetime
    """When the count began; aware."""
    released: datetime
    operator: str
    """Who released it; may be empty."""
    wbc: float | None
    """Leukocytes of the specimen, 10^9/L, as the analyzer counted them; absolute counts come from it."""
    withdrawn: bool
    """True where there is none, but an earlier report had absolute counts: they hold no longer."""
    demo: bool
    """True for a drawn smear: it must never be taken for a patient's."""
    result: Mapping[str, Any]
    """Of `result`, without its cells and images."""


def status(settled: bool, *, was_final: bool) -> Status:
    """Return the status with which a result may leave.

    Args:
        settled: True where the count is complete, of enough cells, and none awaits review.
        was_final: True where a final result of the specimen has left: what follows corrects it, settled or
            not (comments tell), for nothing preliminary takes the place of a final one.
    """
    if was_final:
        return Status.CORRECTED
    return Status.FINAL if settled else Status.PRELIMINARY


def result(
    specimen: str,
    card: Card,
    cells: Sequence[Cell],
    skips: Sequence[Skip],
    *,
    frames: int,
    fields: int,
    lost: int,
    gates: Gates,
    seen: Mapping[str, Any] | None,
    images: Sequence[Mapping[str, Any]] | None,
    complete: bool,
) -> dict[str, Any]:
    """Return the result of a specimen, ready for JSON.

    Of a cell, "network" is the class that the network alone gives it, before size and nucleus were weighed,
    "named" tells whether a person gave it the class, and "why" why a person must look at it (`whys`). Of all
    cells, "namings" tells how often persons gave them their classes.

    Args:
        specimen: its identifier.
        card: of the model that counted.
        cells: all counted cells, by number.
        skips: frames that could not be had.
        frames: read in all, skipped ones left out.
        fields: distinct fields of view.
        lost: frames that could not be laid on the slide and were not counted from.
        gates: frames that the quality gates refused, or warned of.
        seen: how much of the smear the map shows (`edge.mosaic.Coverage.facts`); None without a map.
        images: single ones that were read to their end: "source", whether each shows a place photographed
            before ("again"), and the numbers of the "cells" on it; None for a moving stage.
        complete: True where the whole input was read, or the target was reached.
    """
    counted = differential((c.name for c in cells), card.classes)
    return {
        "notice": NOTICE,
        "specimen": specimen,
        "model": {"name": card.name, "sha256": card.sha256},
        "complete": complete,
        "frames": frames,
        "fields": fields,
        "lost_frames": lost,
        "gated": dict(gates.refused),
        "warned": dict(gates.warned),
        "map": None if seen is None else dict(seen),
        "images": images,
        "skipped": [{"source": s.source, "reason": s.reason} for s in skips],
        "counts": dict(counted.counts),
        "total": counted.total,
        "review": sum(c.review for c in cells),
        "namings": sum(c.namings for c in cells),
        "per_100": dict(counted.per_100),
        "differential": {
            name: {"count": s.count, "percent": s.percent, "low": s.low, "high": s.high}
            for name, s in counted.shares.items()
        },
        "cells": [_cell(cell, card.classes) for cell in cells],
    }


def whys(cell: Cell, classes: Sequence[CellClass]) -> list[str]:
    """Return why a person must look at a cell, in plain words; nothing where nobody must.

    Args:
        cell: as it was counted.
        classes: of the model, in order.
    """
    if not cell.review:
        return []
    found = ["unlike the cells that the model learned from"] if cell.strangeness > 1 else []
    decided, looks = (classes[int(p.argmax())] for p in (cell.probabilities, cell.network))
    # Sizes leave the share of what has no nucleus as it is; a missing nucleus raises it.
    rejected = [i for i, c in enumerate(classes) if c.role is Role.REJECTED]
    pale = float((cell.probabilities - cell.network)[rejected].sum()) > 1e-3
    if pale or decided != looks:
        because = "too pale for a nucleus" if pale else "by its size"
        other = f"; it looks like {_words(looks)}" if decided != looks else ""
        found.append(because + other)
    if not found:
        second = np.argsort(-cell.probabilities)[1:2].tolist()
        likely = [_words(classes[i]) for i in second if cell.probabilities[i] >= _WORTH_NAMING]
        once = "perhaps no leukocyte, or not the same on every image"
        brief = once if isinstance(cell.source, str) else f"seen too briefly, {once}"
        found.append(": it may be ".join([brief if cell.confidence >= _SURE else "unsure", *likely]))
    return found


def _words(kind: CellClass) -> str:
    return kind.name.replace("_", " ")


def _cell(cell: Cell, classes: Sequence[CellClass]) -> dict[str, Any]:
    probabilities = zip(classes, cell.probabilities, strict=True)
    return {
        "number": cell.number,
        "class": cell.name,
        "named": cell.namings > 0,
        "network": classes[int(cell.network.argmax())].name,
        "why": whys(cell, classes),
        "confidence": round(cell.confidence, 4),
        "probabilities": {c.name: round(float(p), 4) for c, p in probabilities},
        "strangeness": round(cell.strangeness, 3),
        "source": cell.source,
        "box": [round(v, 1) for v in (cell.box.x, cell.box.y, cell.box.width, cell.box.height)],
        "slide": [round(v, 1) for v in cell.slide],
        "review": cell.review,
    }
