import threading
import time

import numpy as np

from edge.demo import SLIDE, DemoSource


def test_the_walk_shows_every_cell_whole() -> None:
    source = DemoSource(pace=False)
    assert source.length == len(source.path)
    for cell in source.truth:
        x, y = cell.x - source.path[:, 0], cell.y - source.path[:, 1]
        reach = cell.diameter_px / 2
        whole = (x > reach) & (x < 640 - reach) & (y > reach) & (y < 480 - reach)
        assert whole.sum() >= 8


def test_the_stage_moves_as_a_hand_moves_it() -> None:
    path = DemoSource(pace=False).path
    assert path.min() >= 0
    assert (path <= np.array(SLIDE) - (640, 480)).all()
    steps = np.hypot(*np.diff(path, axis=0).T)
    assert steps.max() < 30
    assert np.median(steps) > 3


def test_frames_are_the_same_for_the_same_seed() -> None:
    first, second = (
        [f.image for f, _ in zip(DemoSource(seed=4, pace=False).frames(), range(3), strict=False)]
        for _ in "ab"
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[0].shape == (480, 640, 3)


def test_close_ends_a_paced_film_at_once() -> None:
    source = DemoSource(fps=0.1)
    timer = threading.Timer(0.1, source.close)
    timer.start()
    started = time.monotonic()
    assert list(source.frames()) == []
    assert time.monotonic() - started < 5
    timer.join()
