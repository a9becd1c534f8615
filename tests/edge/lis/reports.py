"""Made-up results, released into a real outbox."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.lis.outbox import Entry, Outbox
from edge.report import NOTICE, Report, Status
from edge.store import Store

SHA = "ab" * 32


def share(count: int, total: int) -> dict[str, Any]:
    return {"count": count, "percent": 100 * count / total, "low": 1.25, "high": 98.75}


def result(specimen: str, *, neutrophils: int = 60, review: int = 0, complete: bool = True) -> dict[str, Any]:
    """The result of a specimen of 100 cells (see `edge.report.result`), with cells that must be left out."""
    counts = {"basophil": 1, "eosinophil": 3, "lymphocyte": 30, "monocyte": 6, "neutrophil": neutrophils}
    total = sum(counts.values())
    return {
        "notice": NOTICE,
        "specimen": specimen,
        "model": {"name": "wbc", "sha256": SHA},
        "complete": complete,
        "frames": 7,
        "fields": 7,
        "lost_frames": 0,
        "skipped": [],
        "counts": counts,
        "total": total,
        "namings": 0,
        "review": review,
        "per_100": {"erythroblast": 2.0},
        "differential": {name: share(count, total) for name, count in counts.items()},
        "cells": [{"number": 1}],
    }


def report(**changes: Any) -> Report:
    """A final report of specimen S-1."""
    made = Report(
        specimen="S-1",
        version=1,
        status=Status.FINAL,
        started=datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
        released=datetime(2026, 3, 1, 9, 41, 7, tzinfo=UTC),
        operator="Dr A",
        wbc=None,
        withdrawn=False,
        demo=False,
        result={key: value for key, value in result("S-1").items() if key != "cells"},
    )
    return dataclasses.replace(made, **changes)


def begin(database: Path, *specimens: str) -> None:
    """Begin specimens in the store, as a count does."""
    with Store(database) as store:
        for specimen in specimens:
            store.open_specimen(specimen, SHA, "images", moving=False)


def release(database: Path, *specimens: str) -> list[Entry]:
    """Count and release specimens, in this order."""
    begin(database, *specimens)
    with Outbox(database) as box:
        return [box.release(result(specimen)) for specimen in specimens]
