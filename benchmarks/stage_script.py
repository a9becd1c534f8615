"""How a simulated stage moves and what its camera does: scripts, and the exact truth of every frame.

The ordinary script goes over the slide in rows that overlap, sees a stretch twice, stops, shakes, loses
focus for moments, and its light drifts. Each hard script adds one mishap to that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_slide import TrueCell
from edge.errors import UserError
from edge.pose import Pose

Floats = NDArray[np.float64]

IN_FOCUS_SIGMA = 1.2
"""A frame blurred by less than this (pixels) is in focus."""
IN_FOCUS_SMEAR = 5.0
"""A frame that moved by less than this (pixels) while it was exposed is sharp."""
INSIDE_PX = 4.0
"""A cell is wholly in a frame where its box keeps this distance from the border."""
SEEN_WELL_FRAMES = 5
"""A cell is seen well if it is wholly inside this many frames that are sharp and can be placed."""
JOINED_SHARE = 0.5
"""A frame can be placed if it shares this much of its field with an earlier one that could be placed."""


@dataclass(frozen=True, slots=True)
class StageScript:
    """How the stage moves and what the camera does to the picture; 0 switches an effect off."""

    width: int = 640
    height: int = 480
    """Of a frame, pixels."""
    fps: float = 15.0
    path: str = "rows"
    """"rows": serpentine; "ring": once round the slide along its border, and a quarter again."""
    row_overlap: float = 0.35
    """Least share (0..1) of the frame's height that neighbouring rows have in common."""
    revisit: float = 0.5
    """Share (0..1) of the middle row that is visited again after the last row."""
    slowest_px: float = 6.0
    fastest_px: float = 24.0
    """Stage speed, pixels a frame, outside the stops."""
    speed_period: float = 90.0
    """Frames from one fast stretch to the next."""
    exposure: float = 0.0
    """Share (0..1) of a frame's time during which it is exposed, and smeared by the motion."""
    stops: int = 4
    stop_frames: float = 12.0
    """About as long the stage stands still at a stop."""
    shake_px: float = 1.0
    """Hand shake: standard deviation of each frame's place, pixels."""
    turn_degrees: float = 0.0
    """The camera turns by up to this angle in the course of 30 frames, once; later it turns to any
    angle from one frame to the next."""
    bump_frames: int = 0
    """The stage is knocked to where it has not been, moves on there for so long, and is brought back."""
    swap_frames: int = 0
    """Another slide lies under the camera for so long; then the first one again, turned anyhow."""
    dropped: float = 0.0
    """Share (0..1) of the frames that are missing, most in bursts."""
    defocus_episodes: int = 4
    defocus_frames: float = 45.0
    """Length of an episode, there and back."""
    defocus_sigma: float = 3.0
    """Gaussian blur at the worst of an episode, pixels."""
    dimmest: float = 0.75
    brightest: float = 1.2
    """Limits between which the light drifts (1: as the slide is)."""
    drift_period: float = 400.0
    """Frames from one bright stretch to the next."""
    white_balance: float = 0.03
    """Red rises and blue falls by up to this share, and back."""
    noise: float = 2.5
    """Standard deviation of the sensor's noise, grey levels."""

    @property
    def margins(self) -> tuple[float, float]:
        """How far the frame's middle keeps from the slide's borders, across and down, pixels."""
        if self.turn_degrees or self.swap_frames:
            reach = math.hypot(self.width, self.height) / 2
            return reach, reach
        return self.width / 2, self.height / 2


_ORDINARY = StageScript()
ORDINARY: Mapping[str, StageScript] = {
    "rows": _ORDINARY,
    "returns": replace(_ORDINARY, revisit=1.0, stops=8, shake_px=2.0),
    "focus": replace(_ORDINARY, defocus_episodes=10, dimmest=0.6, white_balance=0.06),
}
"""Scripts of a careful hand."""
HARD: Mapping[str, StageScript] = {
    "loop": replace(_ORDINARY, path="ring"),
    "turn": replace(_ORDINARY, turn_degrees=30.0),
    "fast": replace(_ORDINARY, slowest_px=10.0, fastest_px=60.0, exposure=0.2, revisit=1.0),
    "bump": replace(_ORDINARY, bump_frames=60),
    "swap": replace(_ORDINARY, swap_frames=60),
    "drops": replace(_ORDINARY, dropped=0.4),
}
"""Scripts with a mishap."""
SCRIPTS = {**ORDINARY, **HARD}


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """Where one frame lies and what was done to it."""

    x: float
    y: float
    """The middle of its upper left pixel on the slide, pixels."""
    angle: float
    """How far it is turned, as `edge.pose.Pose` has it, radians."""
    blur_sigma: float
    smear: tuple[float, float]
    """How far the slide moved in the frame while it was exposed, (x, y) pixels."""
    gain: tuple[float, float, float]
    """By which the slide's red, green and blue are multiplied."""
    swapped: bool
    """True where another slide lies under the camera."""
    placeable: bool
    """True where earlier frames lead here (`JOINED_SHARE`)."""

    @property
    def pose(self) -> Pose:
        """How the frame lies on the slide."""
        return Pose(self.x, self.y, self.angle)

    @property
    def sharp(self) -> bool:
        """Whether a cell in it is seen well."""
        return self.blur_sigma < IN_FOCUS_SIGMA and math.hypot(*self.smear) < IN_FOCUS_SMEAR


def stage_truth(size: tuple[int, int], script: StageScript, seed: int) -> list[FrameTruth]:
    """Return where each frame of the film lies and what the camera does to it.

    Args:
        size: (width, height) of the slide, pixels.
        script: what happens.
        seed: of all that is random.

    Raises:
        UserError: the slide is smaller than a frame.
    """
    rng = np.random.default_rng((seed, 1))
    centres = _centres(size, script, rng)
    angles = _angles(len(centres), script, rng)
    swapped = np.zeros(len(centres), bool)
    if script.bump_frames:
        centres, angles, swapped = _bumped(size, script, (centres, angles, swapped), rng)
    if script.swap_frames:
        centres, angles, swapped = _exchanged(script, (centres, angles, swapped), rng)
    count = len(centres)
    moved = np.diff(centres, axis=0, prepend=centres[:1])
    # A jump is no motion during an exposure.
    moved[np.hypot(*moved.T) > 2 * script.fastest_px] = 0
    centres = centres + rng.normal(0, script.shake_px, centres.shape)
    gains, blur = _gains(count, script, rng), _blur(count, script, rng)
    kept = _kept(count, script, rng)
    placeable = _placeable(centres, swapped, script, kept)
    frames = []
    for i in kept:
        middle = Pose(float(centres[i, 0]), float(centres[i, 1]), float(angles[i]))
        x, y = middle.to_slide(-(script.width - 1) / 2, -(script.height - 1) / 2)
        smear = Pose(0, 0, middle.angle).to_frame(*(script.exposure * moved[i]))
        gain = (float(gains[i, 0]), float(gains[i, 1]), float(gains[i, 2]))
        frames.append(
            FrameTruth(
                x,
                y,
                middle.angle,
                float(blur[i]),
                smear,
                gain,
                bool(swapped[i]),
                i in placeable,
            )
        )
    return frames


def seen_well(cell: TrueCell, frames: Sequence[FrameTruth], script: StageScript) -> bool:
    """Return whether enough frames that can be placed show the whole cell sharply."""
    reach = cell.diameter / 2 + INSIDE_PX
    good = 0
    for frame in frames:
        if frame.sharp and frame.placeable and not frame.swapped:
            x, y = frame.pose.to_frame(cell.x, cell.y)
            good += reach <= x <= script.width - reach and reach <= y <= script.height - reach
    return good >= SEEN_WELL_FRAMES


def way_points(size: tuple[int, int], script: StageScript) -> list[tuple[float, float]]:
    """Return the corners of the path of the frame's middle.

    Raises:
        UserError: the slide is smaller than a frame.
    """
    left, top = script.margins
    right, bottom = size[0] - left, size[1] - top
    if right < left or bottom < top:
        raise UserError(f"slide of {size[0]} x {size[1]} pixels is smaller than a frame; make it larger")
    if script.path == "ring":
        ring = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return [*ring, ring[0], (left + (right - left) / 2, top)]
    rows = math.ceil((bottom - top) / ((1 - script.row_overlap) * script.height)) + 1
    corners: list[tuple[float, float]] = []
    for row, y in enumerate(np.linspace(top, bottom, rows)):
        ends = (left, right) if row % 2 == 0 else (right, left)
        corners += [(x, float(y)) for x in ends]
    if script.revisit:
        x, y = corners[-1][0], corners[rows // 2 * 2][1]
        across = right - left if x == left else left - right
        corners += [(x, y), (x + script.revisit * across, y)]
    return corners


def _centres(size: tuple[int, int], script: StageScript, rng: np.random.Generator) -> Floats:
    """Return where the middle of each frame lies on the slide, shape (frames, 2), pixels, without shake."""
    corners = np.array(way_points(size, script))
    reached = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    # Twice as many frames as at the mean speed: the path's end cuts the rest off.
    mean = (script.slowest_px + script.fastest_px) / 2
    count = math.ceil(2 * reached[-1] / mean + 2 * script.stops * script.stop_frames) + 1
    speed = mean + (script.fastest_px - script.slowest_px) / 2 * _drift(count, script.speed_period, rng)
    for middle in _moments(script.stops, round(reached[-1] / mean), rng):
        speed *= 1 - np.exp(-(((np.arange(count) - middle) / script.stop_frames) ** 4))
    way = np.cumsum(speed) - speed[0]
    way = way[way < reached[-1]]
    return np.stack([np.interp(way, reached, corners[:, axis]) for axis in (0, 1)], axis=1)


def _angles(count: int, script: StageScript, rng: np.random.Generator) -> Floats:
    """Return how far each frame is turned, radians."""
    angles = np.zeros(count)
    if script.turn_degrees:
        first = np.radians(script.turn_degrees) * rng.uniform(0.3, 1) * rng.choice((-1, 1))
        begin, sudden = int(count * rng.uniform(0.2, 0.4)), int(count * rng.uniform(0.6, 0.8))
        angles = first * np.clip((np.arange(count) - begin) / 30, 0, 1)
        angles[sudden:] += rng.uniform(-np.pi, np.pi)
    return angles


Course = tuple[Floats, Floats, NDArray[np.bool_]]
"""Middle of each frame, its angle, and whether another slide lies there."""


def _bumped(size: tuple[int, int], script: StageScript, course: Course, rng: np.random.Generator) -> Course:
    """Return the course with a stretch elsewhere in it, after which it goes on from where it was."""
    centres = course[0]
    at = int(len(centres) * rng.uniform(0.25, 0.5))
    left, top = script.margins
    # The farthest of a few places that the rows have not come to yet.
    tried = rng.uniform((left, centres[at][1]), (size[0] - left, size[1] - top), (9, 2))
    away = tried[np.linalg.norm(tried - centres[at], axis=1).argmax()]
    steps = np.linspace(0, 1, script.bump_frames)[:, None] * rng.uniform(-200, 200, 2)
    stretch = np.clip(away + steps, (left, top), (size[0] - left, size[1] - top))
    angles, swapped = np.full(len(stretch), course[1][at]), np.zeros(len(stretch), bool)
    return _inserted(course, at, (stretch, angles, swapped))


def _exchanged(script: StageScript, course: Course, rng: np.random.Generator) -> Course:
    """Return the course with a stretch on another slide in it; the first one comes back turned anyhow."""
    centres, angles, _ = course
    at = int(len(centres) * rng.uniform(0.4, 0.6))
    angles = angles.copy()
    angles[at:] += rng.uniform(-np.pi, np.pi)
    first = max(at - script.swap_frames, 0)
    stretch = (centres[first:at], np.full(at - first, angles[at]), np.ones(at - first, bool))
    return _inserted((centres, angles, course[2]), at, stretch)


def _inserted(course: Course, at: int, stretch: Course) -> Course:
    a, b, c = (np.concatenate([one[:at], more, one[at:]]) for one, more in zip(course, stretch, strict=True))
    return a, b, c


def _gains(count: int, script: StageScript, rng: np.random.Generator) -> Floats:
    middle, swing = (script.brightest + script.dimmest) / 2, (script.brightest - script.dimmest) / 2
    light = middle + swing * _drift(count, script.drift_period, rng)
    tint = script.white_balance * _drift(count, 0.7 * script.drift_period, rng)
    return np.asarray(light[:, None] * np.stack([1 + tint, np.ones(count), 1 - tint], axis=1))


def _blur(count: int, script: StageScript, rng: np.random.Generator) -> Floats:
    blur = np.zeros(count)
    for middle in _moments(script.defocus_episodes, count, rng):
        away = np.abs(np.arange(count) - middle) / script.defocus_frames
        blur = np.maximum(blur, script.defocus_sigma * np.where(away < 0.5, np.cos(np.pi * away) ** 2, 0))
    return blur


def _kept(count: int, script: StageScript, rng: np.random.Generator) -> list[int]:
    """Return the frames that are not dropped; the first is always kept."""
    dropped = rng.random(count) < script.dropped / 4
    bursts = round(0.75 * script.dropped * count / 6)
    for begin in rng.integers(1, count, bursts):
        dropped[begin : begin + 6] = True
    return [i for i in range(count) if i == 0 or not dropped[i]]


def _placeable(
    centres: Floats, swapped: NDArray[np.bool_], script: StageScript, kept: Sequence[int]
) -> set[int]:
    """Return the frames that can be placed (`JOINED_SHARE`); turns are left out of the reckoning."""
    placed: list[int] = []
    for i in kept:
        if swapped[i]:
            continue
        away = np.abs(centres[placed] - centres[i])
        share = np.clip(1 - away[:, 0] / script.width, 0, 1) * np.clip(1 - away[:, 1] / script.height, 0, 1)
        if not placed or share.max() >= JOINED_SHARE:
            placed.append(i)
    return set(placed)


def _drift(count: int, period: float, rng: np.random.Generator) -> Floats:
    """Return a wave (-1..1) of `period` frames that begins anywhere."""
    return np.asarray(np.sin(2 * np.pi * (np.arange(count) / period + rng.uniform())), np.float64)


def _moments(number: int, count: int, rng: np.random.Generator) -> Floats:
    """Return `number` frames out of `count`, one anywhere in each of as many equal stretches."""
    return np.asarray(
        (np.arange(number) + rng.uniform(0.2, 0.8, number)) * count / max(number, 1), np.float64
    )
