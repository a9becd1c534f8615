"""Is this frame fit to be counted from? Gates, each with plain words for the technologist.

The measure of blur is the width of the picture's edges: gradients that a wide Gaussian leaves over
gradients that a narrow one leaves. A sharp edge loses much to the wide one, a blurred edge little, and
neither contrast nor the number of cells matters. Taken along the sharpest and the most blurred
direction of the gradients (structure tensor; Bigun and Granlund 1987) it tells defocus, which blurs all ways
alike, from motion, which blurs one. Widths are in red cell diameters, so the camera's pixels do not matter.

What a gate does was decided by what the fault does to the classifier: `benchmarks.quality` prints both.
"""

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Image
from edge.gates import Gate, Verdict
from edge.light import Light, glass
from edge.ruler import RED_CELL_UM, TINTED
from edge.ruler import red_cell_px as ruled_px


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a gate acts."""

    blur_least: float
    """Never refused as blurred: edges of at most so many red cell diameters."""
    blur_most: float
    """Refused whatever the session has seen."""
    over: float
    """Refused: share (0..1) of pixels that are white in all channels."""
    under: float
    """Refused: background darker than this, 0..255."""
    crowded: float
    """Refused: share (0..1) of the frame covered by cells."""


MOVING = Limits(blur_least=0.055, blur_most=0.2, over=0.75, under=35.0, crowded=0.85)
"""A moving stage shows the same cell again: what is doubtful is left for a better frame."""
STILL = Limits(blur_least=np.inf, blur_most=0.17, over=0.985, under=20.0, crowded=np.inf)
"""A single image has no second chance, and may be a tight crop: only what nobody could read is refused.
Of 960 labelled crops of three laboratories, whole and cut tightly, none has edges wider than 0.15."""

_BURNT = 250
"""Brightness (0..255) from which a channel is burnt out: of a film, white comes back a little darker."""
_DEAD = 10.0
"""Background (0..255) that no channel of a working camera is below: under a warm lamp blue has twice that."""
_WARN_OVER, _WARN_UNDER, _WARN_CROWDED = 0.25, 100.0, 0.75
_SPARSE = 0.15
"""Share of the frame covered by cells, under which the spot is called sparse."""
_UNEVEN = 0.88
"""Darkest over brightest part of the light."""
_PALE, _DARK = 0.6, 0.9
"""Optical densities: of the nuclei (2 x green - blue), of the red cells (green)."""
_RED_PX = 24.0
"""A red cell spans about so many pixels at working scale, and the frame no more than `_SIDE`."""
_SIDE = 400
_OFF_SCALE = 1.6
"""Times that red cells (a session's median) are larger or smaller than the given scale has them;
of 277 fields of three laboratories a single one is up to 1.43 times off its laboratory's median."""
_BLIND = np.outer((1, -2, 1), (1, -2, 1)).astype(np.float32)
_FINE, _COARSE = 0.04, 0.12
"""Deviations of the two Gaussians, red cell diameters."""
_SPREAD, _USUAL = 6.5, (1.55, 2.2)
"""Set on the training fields of each source, which 99 % of the good ones pass."""
_MOTION = 1.3
"""Edges so much wider in one direction than across it: the stage, not the focus."""
_FEATURELESS = 0.006
"""Edges weaker than this share of the background's brightness: nothing is there to be sharp."""
_COLOUR, _LEAST_TINTED = 4.0, 0.03
"""Grey levels between the channels, at most, of a picture without colour, in what is not background; and the
share (0..1) of the frame that must be that."""
_REMEMBERED = 600
"""Frames that the session's sharpness is taken from."""
_SETTLED = 30
"""Frames after which light and stain of a session are known."""
_TILES = 4
_THINNEST = 5
"""Shorter side, pixels at working scale, of a picture whose edges can be measured."""
_FADING = 0.9995
"""How fast the brightest is forgotten, a frame."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured of one frame."""

    width: float
    """Of the edges across their most blurred direction, red cell diameters; nan where there are no edges."""
    stretch: float
    """The same over the width in the sharpest direction, from 1; nan where there are no edges."""
    white: float
    """Brightness of the background in green, which the stain darkens, 0..255: a warm lamp is dim in blue."""
    dimmest: float
    """The same in its darkest channel."""
    clipped: float
    """Share of pixels that are white in all channels."""
    covered: float
    """Share of the frame that is not background."""
    colour: float
    """Between the brightest and the darkest channel of what is not background: 95th percentile, 0..255."""
    nuclei: float
    """Optical density (2 x green - blue) of the most stained spot."""
    red: float
    """Optical density in green of what is not background, median."""
    glass: NDArray[np.float32]
    """Background in green by place (`edge.light.glass`)."""


class Inspector:
    """The gates, frame by frame.

    Args:
        um_per_px: size of a frame pixel on the slide, micrometres, of a session; None measures the red cells.
            Where that cannot be, and of images, their usual size in pictures so large is taken. A given one
            is compared with the red cells.
        steady: True where all frames come from one microscope and show one smear: a frame is then judged
            by what the session has seen. False judges each image by itself.
    """

    def __init__(self, um_per_px: float | None = None, *, steady: bool) -> None:
        self.steady = steady
        self._fixed_px = RED_CELL_UM / um_per_px if um_per_px and steady else None
        self._limits = MOVING if steady else STILL
        self._unit = 0.0
        self._widths: deque[float] = deque(maxlen=_REMEMBERED)
        self._nuclei: deque[float] = deque(maxlen=_REMEMBERED)
        self._red_cells: deque[float] = deque(maxlen=_SETTLED + 1)
        self._measured: float | None = None
        """A red cell's diameter in this frame, pixels."""
        self._bright = np.zeros((_TILES, _TILES), np.float32)
        """The brightest that each part was: what lies on the slide moves, what the light does stays."""
        self._seen = 0
        self.light = Light()
        """How the light falls off to the corners, of a session alone."""

    def inspect(self, image: Image) -> Verdict:
        """Judge a frame, RGB, shape (height, width, 3)."""
        longer = max(image.shape[:2])
        ruled = self._ruler(image)
        unit = self._fixed_px or ruled or longer / _usual_cells(longer)
        found = measure(image, unit, self._bright if self._seen >= _SETTLED else None)
        if not self.steady:
            refused = self._refused(found, np.nan)
            return Verdict(refused, () if refused else self._warnings(found))
        refused = self._refused(found, self._usual(unit))
        self._remember(found, unit, refused)
        return Verdict(refused, () if refused else self._warnings(found))

    def _ruler(self, image: Image) -> float | None:
        """Return a red cell's diameter in this session, measured at its beginning and now and then."""
        self._measured = None
        if self.steady and (len(self._red_cells) < _SETTLED or self._seen % _SETTLED == 0):
            self._measured = ruled_px(self.light.even(image))
        known = [*self._red_cells, *([self._measured] if self._measured else [])]
        return float(np.median(known)) if known else None

    def _is_uneven(self) -> bool:
        return bool(self._bright.min() < _UNEVEN * self._bright.max())

    def _is_off_scale(self) -> bool:
        """Tell whether this session's red cells contradict the given scale: widths by it mean nothing.

        Where the light is uneven shaded glass is measured with them.
        """
        if self._fixed_px is None or len(self._red_cells) < _SETTLED or self._is_uneven():
            return False
        ratio = float(np.median(self._red_cells)) / self._fixed_px
        return not 1 / _OFF_SCALE <= ratio <= _OFF_SCALE

    def _usual(self, unit: float) -> float:
        """Return the greatest width of edges that is usual here; nan before it is known.

        Widths by another ruler are forgotten first.
        How far that lies above the sharp frames' width follows from how much those vary among themselves:
        a tenth and a quarter of the frames are sharper than the two widths compared.
        """
        if not 0.8 * self._unit <= unit <= 1.25 * self._unit:
            self._unit = unit
            self._widths.clear()
        if not self._widths:
            return np.nan
        sharpest, sharp = np.percentile(self._widths, (10, 25))
        return float(sharp * np.clip(1.3 + _SPREAD * (sharp / sharpest - 1), *_USUAL))

    def _remember(self, found: Measures, unit: float, refused: Gate | None) -> None:
        """Take a frame into the session's memory: of glass with specks neither the edges nor the ruler."""
        if refused is None:
            self.light.learn(found.glass)
        # However long it lasts, blur does not become usual; but what a session began with may do so.
        blurred = refused in (Gate.FOCUS, Gate.MOTION) and len(self._widths) >= _SETTLED
        shows = found.covered >= _LEAST_TINTED
        if shows and not blurred and not np.isnan(found.width):
            self._widths.append(found.width)
        # Unless it is sharp by its own red cells: then the magnification is another than the session's.
        if (
            self._measured
            and shows
            and (not blurred or found.width * unit <= self._limits.blur_least * self._measured)
        ):
            self._red_cells.append(self._measured)
        self._nuclei.append(found.nuclei)
        self._seen += 1
        parts = found.glass.reshape(_TILES, -1, _TILES, len(found.glass) // _TILES).max(axis=(1, 3))
        self._bright = np.maximum(_FADING * self._bright, parts / max(float(parts.max()), 1.0))

    def _refused(self, found: Measures, usual: float) -> Gate | None:
        limits = self._limits
        if found.clipped > limits.over:
            return Gate.OVER
        if found.white < limits.under or found.dimmest < _DEAD:
            return Gate.UNDER
        if found.covered > _LEAST_TINTED and found.colour <= _COLOUR:
            return Gate.COLOURLESS
        if found.width > max(usual, limits.blur_least) or found.width > limits.blur_most:
            if self._is_off_scale():
                return Gate.SCALE
            return Gate.MOTION if self.steady and found.stretch > _MOTION else Gate.FOCUS
        return Gate.CROWDED if found.covered > limits.crowded else None

    def _warnings(self, found: Measures) -> tuple[Gate, ...]:
        warned = {Gate.OVER: found.clipped > _WARN_OVER, Gate.UNDER: found.white < _WARN_UNDER}
        if self.steady:
            warned |= {Gate.CROWDED: found.covered > _WARN_CROWDED, Gate.SPARSE: found.covered < _SPARSE}
        if self._seen >= _SETTLED:
            warned |= {
                Gate.UNEVEN: self._is_uneven(),
                Gate.PALE: float(np.percentile(self._nuclei, 95)) < _PALE,
                Gate.DARK: found.red > _DARK,
                Gate.SCALE: self._is_off_scale(),
            }
        elif not self.steady:
            warned[Gate.PALE] = found.nuclei < _PALE
        return tuple(gate for gate, on in warned.items() if on)


def measure(image: Image, red_cell_px: float, light: NDArray[np.float32] | None = None) -> Measures:
    """Measure a frame.

    Args:
        image: RGB, shape (height, width, 3).
        red_cell_px: diameter of a red cell in it.
        light: how bright the light is by place, shape (4, 4), brightest about 1, where that is known.
    """
    step = max(1, round(red_cell_px / _RED_PX), math.ceil(max(image.shape[:2]) / _SIDE))
    small = _shrunk(image, step)
    planes = cv2.split(_shrunk(small, 2))
    clipped = float((np.minimum.reduce(planes) >= _BURNT).mean())
    whites = [_quantile(plane, 0.95) for plane in planes]
    shade = 1.0 if light is None else np.maximum(cv2.resize(light, planes[0].shape[::-1]), 0.1)
    green, blue = (_density(plane, shade) for plane in planes[1:])
    tinted = green > TINTED
    spread = np.maximum.reduce(planes) - np.minimum.reduce(planes)
    nuclear = cv2.GaussianBlur(2 * green - blue, (0, 0), 0.7)
    width, stretch = _edges(small[..., 1], red_cell_px / step, _FEATURELESS * whites[1])
    return Measures(
        width=width,
        stretch=stretch,
        white=whites[1],
        dimmest=min(whites),
        clipped=clipped,
        covered=float(tinted.mean()),
        colour=float(np.percentile(spread[tinted], 95)) if tinted.any() else 0.0,
        nuclei=_quantile(nuclear, 0.995),
        red=float(np.median(green[tinted])) if tinted.any() else 0.0,
        glass=glass(planes[1]),
    )


def _density(plane: cv2.typing.MatLike, shade: NDArray[np.float32] | float) -> NDArray[np.float32]:
    """Return the optical density of one channel against its own background, the light's shading taken out."""
    level = np.log((plane.astype(np.float32) + 4) / shade)
    return np.asarray(_quantile(level, 0.95) - level, np.float32)


def _quantile(values: NDArray[Any], share: float) -> float:
    """Return a quantile of one pixel in four, to the nearest value: what costs most must cost little."""
    some = values[::2, ::2].ravel()
    place = int(share * (some.size - 1))
    return float(np.partition(some, place)[place])


def _usual_cells(longer_px: int) -> float:
    """Return how many red cells usually lie along the longer side of a picture of this size."""
    return float(np.clip(longer_px / 72, 2.8, 10))


def _shrunk(image: Image, step: int) -> Image:
    """Return the means of squares of `step` pixels; whole steps are far cheaper than fractions."""
    rows, columns = (max(1, length // step) for length in image.shape[:2])
    part = image[: rows * step, : columns * step]
    return np.asarray(cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)


def _edges(green: NDArray[np.uint8], unit: float, least: float) -> tuple[float, float]:
    """Return the width of the edges, most blurred direction, and its ratio to the sharpest direction.

    An edge blurred by s leaves gradients whose energy falls as 1 / sqrt(s^2 + g^2) behind a Gaussian g;
    the ratio q of the energies behind two Gaussians then gives s^2 + fine^2.
    """
    # Of a strip so thin nothing is left without its border.
    if min(green.shape) < _THINNEST:
        return np.nan, np.nan
    grey = green.astype(np.float32)
    noise = _noise(grey)
    fine, coarse = (
        _tensor(cv2.GaussianBlur(grey, (0, 0), g * unit)) - noise * _passed(round(g * unit, 2)) * np.eye(2)
        for g in (_FINE, _COARSE)
    )
    if np.trace(coarse) < least**2:
        return np.nan, np.nan
    _, directions = np.linalg.eigh(fine)
    along = np.einsum("ij,ik,kj->j", directions, fine, directions)
    ratio = along / np.maximum(np.einsum("ij,ik,kj->j", directions, coarse, directions), 1e-9)
    widths = np.sqrt((_COARSE**2 - _FINE**2) / (np.maximum(ratio, 1.0005) ** 2 - 1))
    return float(widths.max()), float(widths.max() / widths.min())


def _noise(grey: NDArray[np.float32]) -> float:
    """Return the variance of the camera's noise, by a mask that is blind to edges (Immerkaer 1996)."""
    rest = np.abs(cv2.filter2D(grey, -1, _BLIND)[1:-1:2, 1:-1:2])
    # Of a normal distribution, half lies within 0.6745 deviations; the mask's own is 6.
    return float((np.median(rest) / (0.6745 * 6)) ** 2)


@lru_cache(maxsize=64)
def _passed(sigma: float) -> float:
    """Return the gradients' energy that noise of variance 1 has behind a Gaussian of `sigma` pixels."""
    weights = cv2.getGaussianKernel(2 * math.ceil(4 * sigma) + 1, sigma).ravel()
    slope = np.convolve(weights, (1, 0, -1))
    return float((slope**2).sum() * (weights**2).sum())


def _tensor(grey: cv2.typing.MatLike) -> NDArray[np.float64]:
    """Return the mean structure tensor, shape (2, 2), of a picture without its border."""
    # OpenCV's sums, not NumPy's dot products: those wake threads for so little work.
    x = cv2.subtract(grey[2:-2, 3:-1], grey[2:-2, 1:-3])
    y = cv2.subtract(grey[3:-1, 2:-2], grey[1:-3, 2:-2])
    xx, xy, yy = (cv2.mean(cv2.multiply(a, b))[0] for a, b in ((x, x), (x, y), (y, y)))
    return np.array([[xx, xy], [xy, yy]])
