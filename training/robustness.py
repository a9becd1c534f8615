"""Accuracy against graded faults of microscope, camera and operator (`training.corruptions`), as tasks."""

import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.cells import Box, Image
from edge.errors import UserError
from edge.whole import write_json
from training import corruptions, data, sizes
from training.engine import run_tasks
from training.predict import open_model


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

    @property
    def name(self) -> str:
        """What progress and errors call it."""
        return _name(self.kind, self.level)


def accuracy(task: FaultTask) -> float:
    """Return the share of right answers under one fault, the same for the same seed."""
    predictor = open_model(task.model)
    names = [c.name for c in predictor.classes]
    number = list(corruptions.KINDS).index(task.kind)

    def spoil(image: Image, box: Box, sample: int) -> tuple[Image, Box]:
        rng = np.random.default_rng((task.seed, number, task.level, sample))
        return corruptions.corrupt(image, box, task.kind, task.level, rng)

    answers = sizes.answer(predictor, task.samples, spoil if task.level else None)
    among = answers.probabilities[:, [names.index(c) for c in task.classes]]
    truth = [task.classes.index(s.name) for s in task.samples]
    return float((among.argmax(axis=1) == truth).mean())


def sweep(
    model: Path,
    samples: Sequence[data.Sample],
    classes: Sequence[str],
    *,
    folder: Path,
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
        folder: keeps what is done, so that a sweep that was stopped goes on.
        seed: of the faults.
        cluster: see `training.engine.run_tasks`.
        workers: the same.

    Raises:
        UserError: a task failed, or the file in `folder` is not what a sweep keeps.
    """
    asked = tuple(s for s in samples if s.name in classes)
    tasks = [
        FaultTask(model.resolve(), asked, tuple(classes), kind, level, seed)
        for kind, fault in corruptions.KINDS.items()
        for level in range(len(fault.amounts))
        if level or kind == next(iter(corruptions.KINDS))
    ]
    file = folder / f"sweep-{_digest(tasks)}.json"
    found = _read(file)
    left = [t for t in tasks if t.name not in found]
    if found and left:
        print(f"going on with a sweep of which {len(found)} tasks are done", flush=True)

    def keep(task: FaultTask, share: float) -> None:
        found[task.name] = share
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, found)

    run_tasks(accuracy, left, cluster=cluster, workers=workers, on_done=keep, name=lambda t: t.name)
    clean = found[tasks[0].name]
    return {
        kind: [
            {"level": amount, "accuracy": found[_name(kind, level)] if level else clean}
            for level, amount in enumerate(fault.amounts)
        ]
        for kind, fault in corruptions.KINDS.items()
    }


def _name(kind: str, level: int) -> str:
    return f"{kind}, level {level}"


def _digest(tasks: Sequence[FaultTask]) -> str:
    """Return what tells one sweep from another: the model, its cells and classes, the faults, the seed."""
    first, found = tasks[0], hashlib.sha256()
    found.update(first.model.read_bytes())
    for s in first.samples:
        found.update(s.path.read_bytes() + repr((s.name, s.box)).encode())
    found.update(repr((first.classes, first.seed)).encode() + inspect.getsource(corruptions).encode())
    return found.hexdigest()[:16]


def _read(file: Path) -> dict[str, float]:
    """Return the accuracy under each fault that is known, by the task's name."""
    if not file.exists():
        return {}
    try:
        return {str(name): float(share) for name, share in json.loads(file.read_bytes()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not what a sweep keeps ({error}); remove it") from None


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the result of `sweep` as lines to print."""
    lines = ["accuracy by level of fault (* a careless microscopist)"]
    for kind, rows in found.items():
        careless = corruptions.KINDS[kind].careless
        cells = [f"{100 * r['accuracy']:.2f}{'*' if i == careless else ' '}" for i, r in enumerate(rows)]
        lines.append(f"{kind:12}" + "".join(f"{c:>9}" for c in cells))
    return "\n".join(lines)
