"""The demo: a drawn smear under a moving stage, filmed as a person would film it."""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Frame, Image
from edge.smear import Smear, TrueCell

SLIDE = (4096, 3000)
"""Size of the smear, pixels."""
_OVERLAP = 0.35
"""Share of the field that neighbouring rows have in common."""


class DemoSource:
    """Frames of a drawn smear: a `FrameSource`.

    The stage walks the slide in overlapping rows, there and back, halts now and then, goes over one
    stretch a second time; a hand shakes it, focus, lamp and white balance drift.

    Args:
        seed: of the smear and of the walk.
        size: (width, height) of a frame, pixels.
        fps: frames per second.
        pace: True gives each frame when it is due, later where the last one was still being used; none
            is dropped. False gives them as fast as they are asked for.
        leukocytes: on the smear.
    """

    moving = True
    live = False

    def __init__(
        self,
        seed: int = 1,
        size: tuple[int, int] = (640, 480),
        fps: float = 15.0,
        *,
        pace: bool = True,
        leukocytes: int = 120,
    ) -> None:
        self._size, self._fps, self._pace, self._seed = size, fps, pace, seed
        self._smear = Smear(seed, *SLIDE, leukocytes)
        self.path = _walk(np.random.default_rng(seed), size)
        """Upper left corner of each frame on the slide, shape (frames, 2), pixels."""
        self.length: int | None = len(self.path)
        self._closed = threading.Event()

    @property
    def truth(self) -> tuple[TrueCell, ...]:
        """The leukocytes on the smear."""
        return self._smear.cells

    def frames(self) -> Iterator[Frame]:
        """Yield the frames of the walk, until its end or `close`."""
        rng = np.random.default_rng((self._seed, 1))
        light = _Light(self._size, rng)
        due_s = time.monotonic()
        for index, (x, y) in enumerate(self.path):
            view = self._smear.view(float(x), float(y), *self._size)
            frame = Frame(index, index / self._fps, light.film(view, index / self._fps))
            # Drawing is part of the wait. Less than a frame's delay is made up; a longer one is forgotten,
            # or a burst would follow it.
            wait_s = max(0.0, due_s - time.monotonic()) if self._pace else 0.0
            if self._closed.wait(wait_s):
                return
            late_s = time.monotonic() - due_s
            due_s += 1 / self._fps + (late_s if late_s > 1 / self._fps else 0.0)
            yield frame

    def settle(self) -> None:
        """Nothing to do: it is drawn."""

    def close(self) -> None:
        """End the film at once."""
        self._closed.set()


def _walk(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float64]:
    width, height = SLIDE[0] - size[0], SLIDE[1] - size[1]
    rows = round(height / (size[1] * (1 - _OVERLAP))) + 1
    corners = []
    for row, y in enumerate(np.linspace(0, height, rows)):
        ends = [(0.0, y), (width, y)]
        corners += ends if row % 2 == 0 else ends[::-1]
    # Half of the third row is gone over once more, as one does to look again.
    again = ((corners[4][0] + corners[5][0]) / 2, corners[5][1])
    corners[6:6] = [again, corners[5]]
    steps = []
    for start, end in pairwise(corners):
        way = np.hypot(end[0] - start[0], end[1] - start[1])
        count = max(2, round(way / rng.uniform(8, 11)))
        # Slow at the turns, faster between: a cosine.
        share = (1 - np.cos(np.linspace(0, np.pi, count))) / 2
        steps.append(np.outer(1 - share, start) + np.outer(share, end))
        steps.append(np.repeat([end], rng.integers(4, 12), axis=0))
    path = np.concatenate(steps)
    shake = cv2.GaussianBlur(rng.normal(0, 2.0, path.shape), (1, 0), sigmaX=0.1, sigmaY=2)
    return np.clip(path + shake, 0, (width, height))


class _Light:
    """Optics, lamp and sensor: what happens to the picture between the slide and the program."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        width, height = size
        x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
        self._vignette = (1 - 0.07 * (x * x + y * y)).astype(np.float32)[..., None]
        self._noise = rng.normal(0, 2.2, (height, width, 3)).astype(np.float32)
        self._phase = rng.uniform(0, 2 * np.pi, 6)
        self._rng = rng

    def film(self, view: Image, time_s: float) -> Image:
        """Return the frame that the camera gives of `view` at a time."""
        waves = np.sin(2 * np.pi * time_s / np.array([23, 37, 53, 61, 71, 83]) + self._phase)
        blur = 0.3 + 1.4 * max(0.0, waves[0]) ** 4
        gain = (0.97 + 0.05 * waves[1]) * (1 + 0.02 * waves[2:5])
        view = np.asarray(cv2.GaussianBlur(view, (0, 0), blur), np.uint8)
        shift = tuple(int(v) for v in self._rng.integers(0, 64, 2))
        noise = np.roll(self._noise, shift, axis=(0, 1))
        lit = view * (self._vignette * gain.astype(np.float32)) + noise
        return np.asarray(np.clip(lit, 0, 255), np.uint8)
