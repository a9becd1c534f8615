"""Accuracy against graded faults of microscope, camera and operator (`training.corruptions`), as tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.cells import Box, Image
from training import corruptions, data
from training.engine import run_tasks
from training.predict import open_model, predict


@dataclass(frozen=True, slots=True)
class FaultTask:
    """All that a worker needs to judge a model under one fault."""

    model: Path
    samples: tuple[data.Sample, ...]
    """All of one of `classes`."""
    classes: tuple[str, ...]
    kind: str
    level: int
    """0 is the image as it is."""
    seed: int


def accuracy(task: FaultTask) -> float:
    """Return the share of right answers under one fault, the same for the same seed."""
    predictor = open_model(task.model)
    names = [c.name for c in predictor.classes]
    number = list(corruptions.KINDS).index(task.kind)

    def spoil(image: Image, box: Box, sample: int) -> tuple[Image, Box]:
        rng = np.random.default_rng((task.seed, number, task.level, sample))
        return corruptions.corrupt(image, box, task.kind, task.level, rng)

    answers = predict(predictor, task.samples, spoil if task.level else None)
    among = answers.probabilities[:, [names.index(c) for c in task.classes]]
    truth = [task.classes.index(s.name) for s in task.samples]
    return float((among.argmax(axis=1) == truth).mean())


def sweep(
    model: Path,
    samples: Sequence[data.Sample],
    classes: Sequence[str],
    *,
    seed: int = 0,
    cluster: str | None = None,
    workers: int | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Return the accuracy under every fault and level: kind -> [{level, accuracy}], mildest first.

    `level` is the amount of the fault, in its unit (`training.corruptions.KINDS`).

    Args:
        model: .tflite or .keras file.
        samples: those of other classes are left out.
        classes: among which the largest probability decides.
        seed: of the faults.
        cluster: see `training.engine.run_tasks`.
        workers: the same.
    """
    asked = tuple(s for s in samples if s.name in classes)
    tasks = [
        FaultTask(model.resolve(), asked, tuple(classes), kind, level, seed)
        for kind, fault in corruptions.KINDS.items()
        for level in range(len(fault.amounts))
        if level or kind == next(iter(corruptions.KINDS))
    ]
    done = run_tasks(
        accuracy, tasks, cluster=cluster, workers=workers, name=lambda t: f"{t.kind}, level {t.level}"
    )
    found = {(t.kind, t.level): share for t, share in zip(tasks, done, strict=True)}
    clean = done[0]
    return {
        kind: [
            {"level": amount, "accuracy": found.get((kind, level), clean)}
            for level, amount in enumerate(fault.amounts)
        ]
        for kind, fault in corruptions.KINDS.items()
    }


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the result of `sweep` as lines to print."""
    lines = ["accuracy by level of fault (* a careless microscopist)"]
    for kind, rows in found.items():
        careless = corruptions.KINDS[kind].careless
        cells = [f"{100 * r['accuracy']:.2f}{'*' if i == careless else ' '}" for i, r in enumerate(rows)]
        lines.append(f"{kind:12}" + "".join(f"{c:>9}" for c in cells))
    return "\n".join(lines)
