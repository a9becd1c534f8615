"""A slide of real cells, filmed under a scripted moving stage, with exact truth.

`python -m benchmarks.simulate_stage --split test --seed 1 --output DIR` writes DIR/stage.avi and
DIR/truth.json. Cells and red cells are those of the PBC set; only their arrangement, the stage and the
camera are simulated: rows that overlap, a stretch seen twice, stops, hand shake, defocus, drifting
light and noise.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.real_slide import Slide, TrueCell, build_slide
from edge.cells import Image
from edge.errors import UserError

Floats = NDArray[np.float64]

IN_FOCUS_SIGMA = 1.2
"""A frame blurred by less than this (pixels) is in focus."""
INSIDE_PX = 4.0
"""A cell is wholly in a frame where its box keeps this distance from the border."""
SEEN_WELL_FRAMES = 5
"""A cell is seen well if it is wholly inside this many frames that are in focus."""
JPEG_QUALITY = 95
"""Of the film's frames, 0..100."""


@dataclass(frozen=True, slots=True)
class StageScript:
    """How the stage moves and what the camera does to the picture; 0 switches an effect off."""

    width: int = 640
    height: int = 480
    """Of a frame, pixels."""
    fps: float = 15.0
    row_overlap: float = 0.35
    """Least share (0..1) of the frame's height that neighbouring rows have in common."""
    revisit: float = 0.5
    """Share (0..1) of the middle row that is visited again after the last row."""
    slowest_px: float = 4.0
    fastest_px: float = 15.0
    """Stage speed, pixels a frame, outside the stops."""
    speed_period: float = 90.0
    """Frames from one fast stretch to the next."""
    stops: int = 4
    stop_frames: float = 12.0
    """About as long the stage stands still at a stop."""
    shake_px: float = 1.0
    """Hand shake: standard deviation of each frame's place, pixels."""
    defocus_episodes: int = 6
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


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """Where one frame lies and what was done to it."""

    x: float
    y: float
    """Its upper left corner on the slide, pixels."""
    blur_sigma: float
    gain: tuple[float, float, float]
    """By which the slide's red, green and blue are multiplied."""


def film(slide: Slide, script: StageScript, seed: int) -> Iterator[tuple[Image, FrameTruth]]:
    """Yield the frames of the film, shape (script.height, script.width, 3), and the truth of each.

    Raises:
        UserError: the slide is smaller than a frame.
    """
    rng = np.random.default_rng(seed)
    for truth in stage_truth(slide, script, seed):
        move = np.array([[1, 0, -truth.x], [0, 1, -truth.y]], np.float64)
        size = script.width, script.height
        view = cv2.warpAffine(slide.image, move, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        light = view.astype(np.float32) * np.array(truth.gain, np.float32)
        if truth.blur_sigma > 0.1:
            light = np.asarray(cv2.GaussianBlur(light, (0, 0), truth.blur_sigma), np.float32)
        light += script.noise * rng.standard_normal(light.shape, np.float32)
        yield np.clip(light + 0.5, 0, 255).astype(np.uint8), truth


def stage_truth(slide: Slide, script: StageScript, seed: int) -> list[FrameTruth]:
    """Return where each frame of the film lies and what the camera does to it.

    Raises:
        UserError: the slide is smaller than a frame.
    """
    rng = np.random.default_rng((seed, 1))
    places = _places(slide, script, rng)
    count = len(places)
    blur = np.zeros(count)
    for middle in _moments(script.defocus_episodes, count, rng):
        away = np.abs(np.arange(count) - middle) / script.defocus_frames
        blur = np.maximum(blur, script.defocus_sigma * np.where(away < 0.5, np.cos(np.pi * away) ** 2, 0))
    light = (script.brightest + script.dimmest) / 2 + (script.brightest - script.dimmest) / 2 * _drift(
        count, script.drift_period, rng
    )
    tint = script.white_balance * _drift(count, 0.7 * script.drift_period, rng)
    gains = light[:, None] * np.stack([1 + tint, np.ones(count), 1 - tint], axis=1)
    return [
        FrameTruth(float(x), float(y), float(sigma), (float(red), float(green), float(blue)))
        for (x, y), sigma, (red, green, blue) in zip(places, blur, gains, strict=True)
    ]


def way_points(slide: Slide, script: StageScript) -> list[tuple[float, float]]:
    """Return the corners of the stage's path: serpentine rows, then a part of the middle row again.

    Raises:
        UserError: the slide is smaller than a frame.
    """
    height, width = slide.image.shape[:2]
    right, bottom = width - script.width, height - script.height
    if min(right, bottom) < 0:
        raise UserError(f"slide of {width} x {height} pixels is smaller than a frame; make it larger")
    rows = math.ceil(bottom / ((1 - script.row_overlap) * script.height)) + 1
    corners: list[tuple[float, float]] = []
    for row, y in enumerate(np.linspace(0, bottom, rows)):
        ends = (0.0, float(right)) if row % 2 == 0 else (float(right), 0.0)
        corners += [(x, float(y)) for x in ends]
    if script.revisit:
        x, y = corners[-1][0], corners[rows // 2 * 2][1]
        corners += [(x, y), (x + script.revisit * (right if x == 0 else -right), y)]
    return corners


def _places(slide: Slide, script: StageScript, rng: np.random.Generator) -> Floats:
    """Return the upper left corner of each frame on the slide, shape (frames, 2), pixels."""
    corners = np.array(way_points(slide, script))
    reached = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    # Twice as many frames as at the mean speed: the path's end cuts the rest off.
    mean = (script.slowest_px + script.fastest_px) / 2
    count = math.ceil(2 * reached[-1] / mean + 2 * script.stops * script.stop_frames) + 1
    speed = mean + (script.fastest_px - script.slowest_px) / 2 * _drift(count, script.speed_period, rng)
    for middle in _moments(script.stops, round(reached[-1] / mean), rng):
        speed *= 1 - np.exp(-(((np.arange(count) - middle) / script.stop_frames) ** 4))
    way = np.cumsum(speed) - speed[0]
    way = way[way < reached[-1]]
    places = np.stack([np.interp(way, reached, corners[:, axis]) for axis in (0, 1)], axis=1)
    return np.asarray(places + rng.normal(0, script.shake_px, places.shape), np.float64)


def _drift(count: int, period: float, rng: np.random.Generator) -> Floats:
    """Return a wave (-1..1) of `period` frames that begins anywhere."""
    return np.asarray(np.sin(2 * np.pi * (np.arange(count) / period + rng.uniform())), np.float64)


def _moments(number: int, count: int, rng: np.random.Generator) -> Floats:
    """Return `number` frames out of `count`, one anywhere in each of as many equal stretches."""
    return np.asarray(
        (np.arange(number) + rng.uniform(0.2, 0.8, number)) * count / max(number, 1), np.float64
    )


def seen_well(cell: TrueCell, frames: Sequence[FrameTruth], script: StageScript) -> bool:
    """Return whether enough frames show the whole cell in focus."""
    reach = cell.diameter / 2 + INSIDE_PX
    good = sum(
        frame.blur_sigma < IN_FOCUS_SIGMA
        and reach <= cell.x - frame.x <= script.width - reach
        and reach <= cell.y - frame.y <= script.height - reach
        for frame in frames
    )
    return good >= SEEN_WELL_FRAMES


def write(slide: Slide, script: StageScript, seed: int, folder: Path) -> dict[str, Any]:
    """Write `folder`/stage.avi and `folder`/truth.json, showing progress; return the truth.

    Keys: script (the fields of `StageScript`), cells (the fields of `TrueCell`, and seen_well: bool),
    frames (the fields of `FrameTruth`, in order).

    Raises:
        UserError: the folder cannot be written, or the slide is smaller than a frame.
    """
    frames = stage_truth(slide, script, seed)
    truth = {
        "script": dataclasses.asdict(script),
        "cells": [
            {**dataclasses.asdict(cell), "seen_well": seen_well(cell, frames, script)} for cell in slide.cells
        ],
        "frames": [dataclasses.asdict(frame) for frame in frames],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; --output names a folder to write to") from None
    codec, size = cv2.VideoWriter.fourcc(*"MJPG"), (script.width, script.height)
    file = folder / "stage.avi"
    writer = cv2.VideoWriter(str(file), cv2.CAP_OPENCV_MJPEG, codec, script.fps, size)
    if not writer.isOpened():
        raise UserError(f"{file}: cannot be written; --output names a folder to write to")
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, JPEG_QUALITY)
    for image, _ in track(film(slide, script, seed), "filming", len(frames), console=Console(stderr=True)):
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return truth


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate_stage", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--seed", type=int, default=1, help="of the slide, the stage and the noise")
    parser.add_argument("--scale", type=float, default=0.6, help="slide pixels per pixel of a PBC image")
    parser.add_argument("--output", type=Path, required=True, help="folder for stage.avi and truth.json")
    options = parser.parse_args(arguments)
    try:
        slide = build_slide(options.data, options.split, options.seed, scale=options.scale)
        truth = write(slide, StageScript(), options.seed, options.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    well = sum(cell["seen_well"] for cell in truth["cells"])
    print(f"{len(truth['frames'])} frames, {len(truth['cells'])} cells, {well} of them seen well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
