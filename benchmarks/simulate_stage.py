"""A slide of real cells, filmed under a scripted moving stage, with exact truth.

`python -m benchmarks.simulate_stage --split test --script rows --seed 1 --output DIR` writes
DIR/stage.avi and DIR/truth.json. Cells and red cells are those of the PBC set; only their arrangement,
the stage and the camera are simulated. `--script` names what happens (`benchmarks.stage_script`): rows,
returns and focus are ordinary; loop, turn, fast, bump, swap and drops are hard.

truth.json holds `script`, `cells` (class, place, size, file, and whether it was seen well: wholly inside
5 frames that are sharp and can be placed) and `frames` (place, angle, blur, light; whether another slide
lies there, and whether the frame can be placed: it shares half its field with an earlier one).
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.real_slide import Slide, build_slide
from benchmarks.stage_script import SCRIPTS, FrameTruth, StageScript, seen_well, stage_truth
from edge.cells import Image
from edge.errors import UserError
from edge.startup import Parser, run

Floats = NDArray[np.float32]

JPEG_QUALITY = 95
"""Of the film's frames, 0..100."""
MOST_SCALE = 4.0
"""Slide pixels per pixel of a PBC image: what is larger shows nothing more."""
_NOISES = 8
"""Pictures of noise of which one is laid, shifted anyhow, over each frame: drawing it anew is slow."""


def film(slide: Slide, script: StageScript, seed: int) -> Iterator[tuple[Image, FrameTruth]]:
    """Yield the frames of the film, shape (script.height, script.width, 3), and the truth of each.

    The other slide of a swap is this one seen in a mirror.

    Raises:
        UserError: the slide is smaller than a frame.
    """
    rng = np.random.default_rng(seed)
    other = np.ascontiguousarray(slide.image[:, ::-1])
    noises = script.noise * rng.standard_normal((_NOISES, script.height, script.width, 3), np.float32)
    for truth in stage_truth(slide.size, script, seed):
        noise = noises[rng.integers(_NOISES)]
        noise = np.roll(noise, rng.integers(0, noise.shape[:2]), axis=(0, 1))
        yield _exposed(other if truth.swapped else slide.image, truth, noise), truth


def _exposed(sheet: Image, truth: FrameTruth, noise: Floats) -> Image:
    cos, sin = math.cos(truth.angle), math.sin(truth.angle)
    move = np.array([[cos, -sin, truth.x], [sin, cos, truth.y]])
    flags, size = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, noise.shape[1::-1]
    view = cv2.warpAffine(sheet, move, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
    light = view.astype(np.float32) * np.array(truth.gain, np.float32)
    if truth.blur_sigma > 0.1:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), truth.blur_sigma), np.float32)
    if math.hypot(*truth.smear) > 0.5:
        light = np.asarray(cv2.filter2D(light, -1, _streak(*truth.smear)), np.float32)
    return np.asarray(np.clip(light + noise + 0.5, 0, 255), np.uint8)


def _streak(x: float, y: float) -> Floats:
    """Return the kernel of a motion by (x, y) pixels during the exposure; sums to 1."""
    reach = math.ceil(max(abs(x), abs(y)) / 2) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    a, b = ((round(16 * (reach + s * x / 2)), round(16 * (reach + s * y / 2))) for s in (-1, 1))
    cv2.line(kernel, a, b, (1.0,), 1, cv2.LINE_AA, shift=4)
    return np.asarray(kernel / kernel.sum(), np.float32)


def write(slide: Slide, script: StageScript, seed: int, folder: Path) -> dict[str, Any]:
    """Write `folder`/stage.avi and `folder`/truth.json, showing progress; return the truth.

    Keys: script (the fields of `StageScript`), cells (the fields of `TrueCell`, and seen_well: bool),
    frames (the fields of `FrameTruth`, in order).

    Raises:
        UserError: the folder cannot be written, or the slide is smaller than a frame.
    """
    frames = stage_truth(slide.size, script, seed)
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


def _work(options: argparse.Namespace) -> None:
    if not 0 < options.scale <= MOST_SCALE:
        raise UserError(f"--scale {options.scale}: above 0, {MOST_SCALE:g} at most")
    if options.leukocytes < 1:
        raise UserError(f"--leukocytes {options.leukocytes}: 1 at least")
    slide = build_slide(
        options.data, options.split, options.seed, scale=options.scale, leukocytes=options.leukocytes
    )
    truth = write(slide, SCRIPTS[options.script], options.seed, options.output)
    well = sum(cell["seen_well"] for cell in truth["cells"])
    print(f"{len(truth['frames'])} frames, {len(truth['cells'])} cells, {well} of them seen well")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m benchmarks.simulate_stage", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument(
        "--split", default="test", choices=("train", "validation", "test"), help="whose cells are shown"
    )
    parser.add_argument("--script", default="rows", choices=tuple(SCRIPTS), help="what happens")
    parser.add_argument("--seed", type=int, default=1, help="of the slide, the stage and the noise")
    parser.add_argument("--scale", type=float, default=0.6, help="slide pixels per pixel of a PBC image")
    parser.add_argument("--leukocytes", type=int, default=120, help="how many lie on the slide")
    parser.add_argument("--output", type=Path, required=True, help="folder for stage.avi and truth.json")
    options = parser.parse_args(arguments)
    return run(lambda: _work(options))


if __name__ == "__main__":
    sys.exit(main())
