from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Frame
from edge.live_map import LiveMap
from edge.pipeline import Step
from edge.session import Session
from edge.store import Store
from tests.edge.test_session import CARD

RNG = np.random.default_rng(0)
SLIDE = np.asarray(cv2.GaussianBlur(RNG.integers(0, 255, (480, 1300, 3), np.uint8), (0, 0), 4), np.uint8)


def begin(store: Store) -> Session:
    return Session(store, CARD, "S-1", "video", moving=True, review_below=0.5, target=None)


def look(session: Session, x: int) -> None:
    frame = Frame(x, 0.0, np.ascontiguousarray(SLIDE[:, x : x + 640]))
    session.take(Step(frame, (), session.counter.update(frame, ())))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "counts.sqlite") as opened:
        yield opened


def test_a_changed_map_is_drawn_again_after_a_while_or_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("edge.live_map.time.monotonic", lambda: now_s)
    session, live = begin(store), LiveMap()
    live.refresh(session)
    assert (live.view, live.state) == (None, None), "nothing was seen yet"
    look(session, 0)
    live.refresh(session)
    assert live.state is not None
    first, narrow = live.state["version"], live.view
    assert narrow is not None
    look(session, 200)
    live.refresh(session)
    assert live.state["version"] == first, "too soon"
    now_s += 0.5
    live.refresh(session, at_once=True)
    assert live.state["version"] > first
    assert live.view is not None
    assert live.view.image.shape[1] > narrow.image.shape[1]
    look(session, 400)
    now_s += 1.1
    live.refresh(session)
    assert live.state["version"] == session.map_version
    live.store(session)
    assert begin(store).map_view() is None, "stored every five seconds"
    now_s += 5
    live.store(session)
    assert begin(store).map_view() is not None
    assert begin(store).frames == 3
