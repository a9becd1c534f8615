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


def test_frames_come_when_they_are_due() -> None:
    source = DemoSource(fps=20)
    times = []
    for _, _ in zip(source.frames(), range(21), strict=False):
        times.append(time.monotonic())
        threading.Event().wait(0.03)
    # Neither drawing nor the program's work on a frame lengthens the interval; a busy machine may be late.
    assert 0.95 < times[-1] - times[0] < 1.4


def test_time_that_the_program_lost_is_not_made_up_by_a_burst() -> None:
    source = DemoSource(fps=10)
    frames = source.frames()
    next(frames)
    threading.Event().wait(0.45)
    next(frames)
    started = time.monotonic()
    next(frames)
    next(frames)
    assert time.monotonic() - started > 0.15


def test_a_paused_demo_holds_its_place() -> None:
    # What is not live waits until the next frame is asked for.
    assert not DemoSource().live
    source = DemoSource(fps=50)
    frames = source.frames()
    next(frames)
    threading.Event().wait(0.1)
    assert next(frames).index == 1


def test_close_ends_a_paced_film_at_once() -> None:
    source = DemoSource(fps=0.1)
    timer = threading.Timer(0.3, source.close)
    started = time.monotonic()
    frames = source.frames()
    assert next(frames).index == 0
    timer.start()
    assert list(frames) == []
    assert time.monotonic() - started < 5
    timer.join()


def test_a_closed_film_shows_nothing() -> None:
    source = DemoSource(pace=False)
    source.close()
    source.close()
    assert list(source.frames()) == []
