"""Other slides, stains, lamps, cameras and hands, imitated on the images of one laboratory."""

from collections.abc import Callable

import cv2
import numpy as np

from edge.cells import Box, Image
from edge.preprocess import CONTEXT

Random = np.random.Generator


def augment(image: Image, box: Box, size: int, rng: Random) -> Image:
    """Return one random variant of the crop round `box`, shape (`size`, `size`, 3) RGB.

    Covers turning, mirroring, scale, an imprecise box; stain strength, white balance, brightness,
    camera colours; defocus, low resolution, noise and JPEG.
    """
    view = _turn(image, box, size, rng)
    view = _stain(view, rng)
    view = _camera_colours(view, rng)
    for chance, spoil in _SPOILS:
        if rng.random() < chance:
            view = spoil(view, rng)
    return view


def _turn(image: Image, box: Box, size: int, rng: Random) -> Image:
    # Mostly the instrument's own framing; now and then as wide as an uncut image, or tight.
    low, high = (0.62, 1.8) if rng.random() < 0.4 else (0.8, 1.25)
    side = CONTEXT * box.side * np.exp(rng.uniform(np.log(low), np.log(high)))
    x, y = np.array(box.centre) + rng.uniform(-0.07, 0.07, 2) * side
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(angle) * size / side, np.sin(angle) * size / side
    mirror = rng.choice((-1, 1))
    matrix = np.array([[mirror * c, -s, 0], [mirror * s, c, 0]])
    matrix[:, 2] = size / 2 - matrix[:, :2] @ (x, y)
    return _image(cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE))


def _stain(view: Image, rng: Random) -> Image:
    # A power of the transmitted light scales its optical density: a paler or darker stain.
    power = rng.uniform(0.5, 1.6) * rng.uniform(0.75, 1.3, 3)
    gain = rng.uniform(0.75, 1.15) * rng.uniform(0.75, 1.2, 3)
    levels = np.linspace(0, 1, 256)[:, None]
    table = np.clip(255 * gain * levels**power, 0, 255).astype(np.uint8)
    return _image(cv2.LUT(view, table[None]))


def _camera_colours(view: Image, rng: Random) -> Image:
    saturation = rng.uniform(0.1, 1.5)
    mix = saturation * np.eye(3) + (1 - saturation) / 3 + rng.uniform(-0.22, 0.22, (3, 3))
    return _image(cv2.transform(view, mix / mix.sum(axis=1, keepdims=True)))


def _defocus(view: Image, rng: Random) -> Image:
    return _image(cv2.GaussianBlur(view, (0, 0), rng.uniform(0.4, 3.5)))


def _low_resolution(view: Image, rng: Random) -> Image:
    size = view.shape[0]
    small = int(size / rng.uniform(1.3, 3.5))
    view = _image(cv2.resize(view, (small, small), interpolation=cv2.INTER_AREA))
    return _image(cv2.resize(view, (size, size), interpolation=cv2.INTER_LINEAR))


def _noise(view: Image, rng: Random) -> Image:
    noise = rng.standard_normal(view.shape, np.float32) * rng.uniform(1, 9)
    return np.clip(view + noise, 0, 255).astype(np.uint8)


def _jpeg(view: Image, rng: Random) -> Image:
    _, data = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(30, 90))])
    return _image(cv2.imdecode(data, cv2.IMREAD_COLOR))


_SPOILS: tuple[tuple[float, Callable[[Image, Random], Image]], ...] = (
    (0.3, _defocus),
    (0.2, _low_resolution),
    (0.2, _noise),
    (0.2, _jpeg),
)


def _image(array: object) -> Image:
    return np.asarray(array, np.uint8)
