"""Graded faults of slide, microscope and camera, for the robustness sweep: accuracy against each of them.

Nothing here is shared with `training.augment`: there a range is drawn that the model learns to bear,
here one known fault at a time is put on a whole image, as the camera would have yielded it. The levels
come from the bench, not from what a model survives. "Careless" is what a hurried but honest person at
an ordinary microscope yields: plainly bad, yet a technologist still reads the cell.

`KINDS` stands in the order in which light meets the faults, so one that wants several may go through
it. What happens to light (defocus, lamp, exposure, photons, the camera's colour matrix) is reckoned in
linear light, what happens to the finished picture (tone curve, JPEG) in its 8-bit values.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image
from edge.errors import UserError

Random = np.random.Generator
Light = NDArray[np.float32]
"""Linear light, 1 = white, shape (height, width, 3)."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """One kind of fault and its levels; level 0 leaves the image untouched."""

    apply: Callable[[Image, float, Box, Random], Image]
    """(image, amount, cell, random numbers) -> the faulty image."""
    unit: str
    """Of the amounts, for the axis of a curve."""
    amounts: tuple[float, ...]
    """One for each level, mildest first; that of level 0 means no fault."""
    careless: int
    """The level of a careless microscopist."""


def corrupt(image: Image, box: Box, kind: str, level: int, rng: Random) -> tuple[Image, Box]:
    """Return `image` with one fault, and where the cell in `box` now lies.

    The size of the image changes by "scale" alone. Faults with two directions (too bright or too
    dark) take either by chance.

    Args:
        image: the whole source image, (height, width, 3) RGB.
        box: the cell in it, the measure of the blur and the centre of the rotation.
        kind: one of `KINDS`.
        level: 0 (untouched) to the last of the kind's amounts.
        rng: decides direction and noise; the same generator state gives the same image.

    Raises:
        UserError: there is no such kind or level.
    """
    fault = find(kind)
    if not 0 <= level < len(fault.amounts):
        raise UserError(f"corruption {kind}: no level {level}; use 0 to {len(fault.amounts) - 1}")
    if level == 0:
        return image, box
    spoiled = fault.apply(image, fault.amounts[level], box, rng)
    x, y = spoiled.shape[1] / image.shape[1], spoiled.shape[0] / image.shape[0]
    return spoiled, Box(box.x * x, box.y * y, box.width * x, box.height * y)


def find(kind: str) -> Corruption:
    """Return the corruption of that name.

    Raises:
        UserError: there is none.
    """
    try:
        return KINDS[kind]
    except KeyError:
        raise UserError(f"corruption {kind!r} is unknown; use one of {', '.join(KINDS)}") from None


def rotation(image: Image, degrees: float, box: Box, rng: Random) -> Image:
    """Turn the picture round the cell, either way; corners are filled by mirroring.

    A camera sits in its tube at any angle and a slide on the stage in either direction, so every angle
    is honest. Careless is 45 degrees, where the pixel grid suffers most.
    """
    matrix = np.asarray(cv2.getRotationMatrix2D(box.centre, _sign(rng) * degrees, 1.0), np.float64)
    # getRotationMatrix2D takes continuous coordinates, in which a pixel's centre lies at + 0.5.
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    size = (image.shape[1], image.shape[0])
    turned = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, np.uint8)


def scale(image: Image, factor: float, box: Box, rng: Random) -> Image:
    """Record the same field on fewer pixels: `factor` is the new width over the old.

    Another objective or camera. Careless is 0.4: read with the 40x objective, to save the oil, in
    place of the 100x. A fifth leaves a leukocyte 15 to 30 pixels.
    """
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def blur(image: Image, percent: float, box: Box, rng: Random) -> Image:
    """Defocus: every point becomes an even disc, `percent` of the cell's width across.

    The disc of an NA 1.25 oil objective widens by some 1.5 to 2.9 um for each um out of focus, as the
    condenser's diaphragm is; its depth of field is about 0.6 um. Careless is 6 percent, 0.8 um on a
    cell of 14 um: the focus half a micrometre off, at the end of the depth of field. Chromatin melts,
    lobes and the tint of granules stay; at 15 percent one would turn the knob.
    """
    light = cv2.filter2D(linear(image), -1, _disc(percent / 100 * box.side), borderType=cv2.BORDER_REFLECT)
    return displayed(np.asarray(light, np.float32))


def warmth(image: Image, mired: float, box: Box, rng: Random) -> Image:
    """White balance made for another lamp, warmer or cooler by `mired` (a million over kelvin).

    By Wien's law the light of a wavelength changes by exp(-c2 / wavelength x mired), whatever the
    lamp. Careless is 60: the halogen lamp dimmed from 3200 to 2700 K after the balance was set, or a
    camera left on "sunny" at a neutral white LED.
    """
    shift = np.exp(-_sign(rng) * mired * 1e-6 * _WIEN)
    return displayed(linear(image) * (shift / shift[1]).astype(np.float32))


def gain(image: Image, stops: float, box: Box, rng: Random) -> Image:
    """Exposure wrong by `stops` (factors of two of light), too bright or too dark; white clips.

    Careless is one stop: the lamp's dial a notch off or the diaphragm left as the last slide had it,
    with the camera's exposure fixed. One stop up burns the background out and leaves red cells their
    rims alone, the nucleus and its neighbourhood still show; one stop down is a grey picture.
    """
    return displayed(linear(image) * np.float32(2.0 ** (_sign(rng) * stops)))


def noise(image: Image, percent: float, box: Box, rng: Random) -> Image:
    """Shot and read noise; `percent` is the noise of a white pixel over its signal.

    White of n electrons has noise of 1 / sqrt(n); 3 electrons of read noise are added. The sensor of
    an eyepiece camera holds 4000 at base gain (1.6 percent). Careless is 7 percent, 200 electrons: the
    gain turned up twentyfold because the lamp was left dim.
    """
    white = (100 / percent) ** 2
    electrons = rng.poisson(linear(image) * white) + rng.normal(0, _READ_ELECTRONS, image.shape)
    return displayed((electrons / white).astype(np.float32))


def hue(image: Image, degrees: float, box: Box, rng: Random) -> Image:
    """Turn all colours round the grey axis, either way; white and greys stay.

    A camera whose colour matrix belongs to another sensor, or whose hue dial was touched. Careless is
    10 degrees: purple goes visibly towards blue or towards red, as between two makers' cameras.
    """
    angle = np.radians(_sign(rng) * degrees)
    # Rodrigues' rotation about (1, 1, 1) / sqrt(3).
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3
    return displayed((linear(image) @ turn.T).astype(np.float32))


def gamma(image: Image, exponent: float, box: Box, rng: Random) -> Image:
    """Raise the picture's values to `exponent` or to 1 / `exponent`: a harder or a flatter tone curve.

    Cameras differ in their curves, and viewers offer a slider. Careless is 1.4 (or 0.7): the slider set
    by eye on an uncalibrated screen. 2.2 is a curve applied twice, or never.
    """
    levels = np.linspace(0, 1, 256) ** (exponent ** _sign(rng))
    return np.asarray(cv2.LUT(image, np.rint(255 * levels).astype(np.uint8)), np.uint8)


def jpeg(image: Image, quality: float, box: Box, rng: Random) -> Image:
    """Save as JPEG of `quality` (1..100) with colour at half the resolution, as most programs do.

    Careless is 40: saved at "small file", or sent through a messenger twice. Blocks of 8 pixels and
    smeared colour show at a second look.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


KINDS: dict[str, Corruption] = {
    "rotation": Corruption(rotation, "degrees", (0, 10, 30, 45, 90, 180), 3),
    "scale": Corruption(scale, "pixels across, share of the original", (1, 0.8, 0.6, 0.4, 0.3, 0.2), 3),
    "blur": Corruption(blur, "blur disc, % of the cell's width", (0, 1.5, 3, 6, 10, 15), 3),
    "warmth": Corruption(warmth, "lamp off by, mired", (0, 15, 30, 60, 100, 150), 3),
    "gain": Corruption(gain, "exposure off by, stops", (0, 0.25, 0.5, 1, 1.5, 2), 3),
    "noise": Corruption(noise, "noise of white, %", (0, 1, 3, 7, 12, 18), 3),
    "hue": Corruption(hue, "turn, degrees", (0, 3, 6, 10, 20, 35), 3),
    "gamma": Corruption(gamma, "exponent (or its inverse)", (1, 1.1, 1.2, 1.4, 1.7, 2.2), 3),
    "jpeg": Corruption(jpeg, "quality", (100, 90, 70, 40, 20, 10), 3),
}
"""All faults by name, in the order in which light meets them."""

_READ_ELECTRONS = 3.0
_WIEN = 1.4388e-2 / np.array([610e-9, 545e-9, 465e-9])
"""Wien's constant (m K) over the wavelengths (m) of red, green and blue: kelvin."""


def _decoded() -> Light:
    levels = np.arange(256) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4).astype(np.float32)


_LINEAR = _decoded()
"""Linear light of each 8-bit sRGB value."""


def linear(image: Image) -> Light:
    """Return the linear light (0..1) of an sRGB picture."""
    return _LINEAR[image]


def displayed(light: Light) -> Image:
    """Return the 8-bit sRGB picture of linear light; beyond white it clips."""
    light = np.clip(light, 0, 1)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * levels), np.uint8)


def _disc(diameter_px: float) -> Light:
    """Return an even disc that sums to 1, its rim softened over one pixel."""
    reach = int(np.ceil(diameter_px / 2))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(diameter_px / 2 + 0.5 - np.hypot(x, y), 0, 1)
    return np.asarray(disc / disc.sum(), np.float32)


def _sign(rng: Random) -> int:
    return 1 if rng.random() < 0.5 else -1
