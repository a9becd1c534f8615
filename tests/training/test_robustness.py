from pathlib import Path

import numpy as np
import pytest

from edge.cells import Answers, CellClass, Role
from edge.classify import DEFAULT_MODEL
from training import data, robustness
from training.corruptions import KINDS
from training.framing import Framing


class Brightness:
    """Tells bright images from dark ones by their mean."""

    classes = (CellClass("lymphocyte", Role.COUNTED), CellClass("monocyte", Role.COUNTED))
    size = 32
    framing = Framing.IMAGE

    def answer(self, views: np.ndarray) -> Answers:
        bright = views.mean(axis=(1, 2, 3)) > 190
        return Answers(
            np.stack([bright, ~bright], axis=1).astype(np.float32), np.zeros(len(views), np.float32)
        )


def two_classes(made_data: Path) -> list[data.Sample]:
    return [s for s in data.load(made_data) if s.name in ("lymphocyte", "monocyte")][:4]


def test_faults_of_light_take_what_rests_on_light_alone(
    made_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness, "open_model", lambda file: Brightness())
    monkeypatch.setattr(robustness, "run_tasks", lambda function, tasks, **_: [function(t) for t in tasks])
    sweep = robustness.sweep(Path("x"), two_classes(made_data), ["lymphocyte", "monocyte"])
    assert set(sweep) == set(KINDS)
    assert all([p["level"] for p in rows] == list(KINDS[kind].amounts) for kind, rows in sweep.items())
    assert sweep["gain"][0]["accuracy"] == 1.0
    assert min(p["accuracy"] for p in sweep["gain"]) < 1.0
    assert {p["accuracy"] for p in sweep["rotation"]} == {1.0}
    assert "100.00*" in robustness.table(sweep)


def test_the_shipped_model_is_judged_by_tasks_of_their_own_processes(made_data: Path) -> None:
    """Discs of one colour are no cells: what counts is that all faults come back, the same each time."""
    samples, classes = two_classes(made_data)[:2], ["lymphocyte", "monocyte"]
    sweep = robustness.sweep(DEFAULT_MODEL, samples, classes, workers=2)
    kind = "noise"
    level = KINDS[kind].careless
    task = robustness.FaultTask(DEFAULT_MODEL, tuple(samples), tuple(classes), kind, level, 0)
    assert robustness.accuracy(task) == sweep[kind][level]["accuracy"]
