from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from edge.cells import Answers, CellClass, Role
from edge.classify import DEFAULT_MODEL
from edge.errors import UserError
from training import data, robustness
from training.corruptions import KINDS
from training.framing import Framing

T = TypeVar("T")


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


def in_turn(
    function: Callable[[T], float], tasks: Sequence[T], *, on_done: Callable[[T, float], None], **_: object
) -> None:
    for task in tasks:
        on_done(task, function(task))


def test_a_sweep_that_was_stopped_goes_on_and_another_one_begins_anew(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def judge(task: robustness.FaultTask) -> float:
        asked.append(task.name)
        if asked[-1] == stop:
            raise KeyboardInterrupt
        return 0.5 + task.level / 100

    monkeypatch.setattr(robustness, "accuracy", judge)
    monkeypatch.setattr(robustness, "run_tasks", in_turn)
    model, stop = tmp_path / "x.tflite", "gain, level 2"
    model.write_bytes(b"a model")
    samples, classes = two_classes(made_data), ["lymphocyte", "monocyte"]
    with pytest.raises(KeyboardInterrupt):
        robustness.sweep(model, samples, classes, folder=tmp_path / "sweeps")
    stop = ""
    sweep = robustness.sweep(model, samples, classes, folder=tmp_path / "sweeps")
    assert Counter(asked) == {name: 1 + (name == "gain, level 2") for name in asked}
    assert sweep["noise"][3]["accuracy"] == 0.53
    assert {rows[0]["accuracy"] for rows in sweep.values()} == {0.5}
    asked.clear()
    assert robustness.sweep(model, samples, classes, folder=tmp_path / "sweeps") == sweep
    assert not asked
    model.write_bytes(b"another")
    robustness.sweep(model, samples, classes, folder=tmp_path / "sweeps")
    assert len(asked) == len(set(asked)) > 20
    (kept, _) = sorted((tmp_path / "sweeps").iterdir(), key=lambda f: f.stat().st_mtime_ns)
    kept.write_text("[]")
    model.write_bytes(b"a model")
    with pytest.raises(UserError, match=r"sweep-\w+\.json: not what a sweep keeps"):
        robustness.sweep(model, samples, classes, folder=tmp_path / "sweeps")


def test_faults_of_light_take_what_rests_on_light_alone(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness, "open_model", lambda file: Brightness())
    monkeypatch.setattr(robustness, "run_tasks", in_turn)
    model = tmp_path / "x.tflite"
    model.write_bytes(b"a model")
    sweep = robustness.sweep(model, two_classes(made_data), ["lymphocyte", "monocyte"], folder=tmp_path)
    assert set(sweep) == set(KINDS)
    assert all([p["level"] for p in rows] == list(KINDS[kind].amounts) for kind, rows in sweep.items())
    assert sweep["gain"][0]["accuracy"] == 1.0
    assert min(p["accuracy"] for p in sweep["gain"]) < 1.0
    assert {p["accuracy"] for p in sweep["rotation"]} == {1.0}
    assert "100.00*" in robustness.table(sweep)


def test_the_shipped_model_is_judged_by_tasks_of_their_own_processes(made_data: Path, tmp_path: Path) -> None:
    """Discs of one colour are no cells: what counts is that all faults come back, the same each time."""
    samples, classes = two_classes(made_data)[:2], ["lymphocyte", "monocyte"]
    sweep = robustness.sweep(DEFAULT_MODEL, samples, classes, folder=tmp_path, workers=2)
    kind = "noise"
    level = KINDS[kind].careless
    task = robustness.FaultTask(DEFAULT_MODEL, tuple(samples), tuple(classes), kind, level, 0)
    assert robustness.accuracy(task) == sweep[kind][level]["accuracy"]
