"""The flat field: how the light falls on the camera, taken from an empty spot, and taken out of each frame.

It belongs to one microscope, objective, lamp setting and picture size. The file is a 16-bit RGB PNG in which
65535 is the brightest spot; `edge.run --flat-field` writes it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Frame, Image, Skip
from edge.errors import UserError
from edge.whole import whole

FRAMES = 32
"""Frames that a field is averaged from, at most."""
_CLIPPED = 250
"""A channel this bright (0..255) may have lost light."""
_DARK = 60
"""An average darker than this (0..255) is too noisy."""
_LEAST = 0.2
"""The darkest part of a believable field, as a share of the brightest."""
_SHADOW = 0.06
"""What lies this much (natural optical density) below the smooth course of the light is a cell or dirt."""
_SHADOWED = 0.01
"""Share of the picture (0..1) that may, of all: a grain of dust on the camera."""
_GRAIN = 0.003
"""Share of the picture that one shadow may have: a red cell has half a per cent and more."""
_NOISE_PX = 2.0
"""Deviation of the Gaussian that takes the rest of the noise out of a field."""

Field = NDArray[np.float32]
"""Shape (height, width, 3), RGB, 0..1 of the brightest spot of each channel."""


class FlatField:
    """Takes the course of the light out of frames.

    Args:
        field: as `take_flat_field` or `read_flat_field` return it.
        name: of its file, for errors.
    """

    def __init__(self, field: Field, name: str = "flat field") -> None:
        self._gain = 1 / field
        self._name = name

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures that it is for."""
        return self._gain.shape[1], self._gain.shape[0]

    def correct(self, image: Image) -> Image:
        """Return the image as an even light would have shown it.

        Raises:
            UserError: the field is of another size.
        """
        if image.shape != self._gain.shape:
            (height, width), (rows, columns) = image.shape[:2], self._gain.shape[:2]
            raise UserError(
                f"{self._name}: taken at {columns} x {rows} pixels, the picture has {width} x {height}; take "
                "it again with --flat-field, or remove it"
            )
        return np.asarray(cv2.multiply(image, self._gain, dtype=cv2.CV_8U), np.uint8)

    def corrected(self, frames: Iterable[Frame | Skip]) -> Iterator[Frame | Skip]:
        """Yield the frames, corrected."""
        for frame in frames:
            if isinstance(frame, Skip):
                yield frame
            else:
                yield replace(frame, image=self.correct(frame.image))


def take_flat_field(frames: Iterable[Frame | Skip]) -> Field:
    """Average the first frames into a field.

    Raises:
        UserError: there are none, they differ in size, or they do not show an empty spot in good light.
    """
    total: NDArray[np.float64] | None = None
    count = 0
    for frame in frames:
        if isinstance(frame, Skip):
            raise UserError(f"flat field: {frame.source}: {frame.reason}")
        _check_empty(frame.image)
        if total is None:
            total = np.zeros(frame.image.shape, np.float64)
        if frame.image.shape != total.shape:
            raise UserError("flat field: the pictures differ in size; give those of one camera")
        total += frame.image
        count += 1
        if count == FRAMES:
            break
    if total is None:
        raise UserError("flat field: no picture came")
    mean = cv2.GaussianBlur((total / count).astype(np.float32), (0, 0), _NOISE_PX)
    field = np.asarray(mean / mean.reshape(-1, 3).max(axis=0), np.float32)
    _check_plausible(field, "flat field", "centre the lamp and the condenser, and take it again")
    return field


def _check_empty(image: Image) -> None:
    small = cv2.resize(image, (64, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
    if float((small.max(axis=2) >= _CLIPPED).mean()) > _SHADOWED:
        raise UserError("flat field: the picture is over-exposed; turn the lamp down and take it again")
    if float(small.mean()) < _DARK:
        raise UserError("flat field: the picture is too dark; turn the lamp up and take it again")
    depth = -np.log(small[..., 1] + 1)
    shadow = (_above_course(depth) > _SHADOW).astype(np.uint8)
    areas = cv2.connectedComponentsWithStats(shadow)[2][1:, cv2.CC_STAT_AREA]
    if areas.sum() > _SHADOWED * shadow.size or areas.max(initial=0) > _GRAIN * shadow.size:
        raise UserError(
            "flat field: cells or dirt are in the picture; move to an empty spot, beside the smear; "
            "what stays there, clean off the slide or the camera"
        )


def _above_course(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far a picture lies above its own smooth course: polynomials up to the fourth degree."""
    rows, columns = depth.shape
    y, x = (np.linspace(-1, 1, length) for length in (rows, columns))
    terms = [np.outer(y**i, x**j).ravel() for i in range(5) for j in range(5 - i)]
    basis = np.stack(terms, axis=1)
    course = basis @ np.linalg.lstsq(basis, depth.ravel(), rcond=None)[0]
    return np.asarray(depth - course.reshape(depth.shape), np.float32)


def _check_plausible(field: Field, name: str, remedy: str) -> None:
    darkest, brightest = float(field.min()), float(field.max())
    if not darkest >= _LEAST * brightest > 0:
        raise UserError(
            f"{name}: its darkest part has {100 * darkest / max(brightest, 1e-9):.0f} % of the light, "
            f"{100 * _LEAST:.0f} % or more expected; {remedy}"
        )


def write_flat_field(path: Path, field: Field) -> None:
    """Write a field as a whole.

    Raises:
        UserError: it cannot be written.
    """
    levels = np.rint(65535 * field).astype(np.uint16)
    data = cv2.imencode(".png", cv2.cvtColor(levels, cv2.COLOR_RGB2BGR))[1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            part.write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; --flat-field-file names the file of the field") from None


def read_flat_field(path: Path) -> FlatField:
    """Read the field that `write_flat_field` wrote.

    Raises:
        UserError: the file is missing, is no field, or an implausible one.
    """
    again = "take it again with --flat-field, or remove it"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; --flat-field-file names a field that --flat-field has taken"
        ) from None
    # OpenCV throws on no data at all.
    levels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 3 or levels.shape[2] != 3:
        raise UserError(f"{path}: not a flat field (a 16-bit colour PNG); {again}")
    field = np.asarray(cv2.cvtColor(levels, cv2.COLOR_BGR2RGB) / np.float32(65535), np.float32)
    _check_plausible(field, str(path), again)
    return FlatField(field, str(path))
