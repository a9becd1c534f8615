"""How one small picture of the slide lies on another, by what both show.

The first look is phase correlation (Kuglin and Hines 1975), its peaks judged by the correlation of the
two pictures over their overlap; the second is a fit of shift and turn to a fraction of a pixel (Lucas
and Kanade 1981). What fits in two places almost as well, as a repeated texture does, fits in none.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Image
from edge.pose import Pose

THUMB_SIDE = 160
"""Longer side of a frame at the scale of the thumbs, pixels, before trimming."""
TRIM = 8
"""Thumb pixels cut off at each border."""
THUMB_UNIT = 24.0
"""Thumbs are signed bytes, this many to one standard deviation of contrast."""
LEAST_SIDE = 24
"""A frame so long and thin that less is left of its shorter side cannot be placed."""
_CLEARLY, _REPEATED = 0.35, 0.95
"""Variance that a fit leaves unexplained, over that of the next best, where it is the right one; and how well
the next best fits if the texture repeats itself."""
_BRIGHTEST = 2.5
"""Standard deviations of contrast beyond which all counts as this: on a nearly bare slide one nucleus, or a
speck on the camera, must not be all that two frames have in common."""
_STRONGEST, _SPREAD = 22, 4.0
"""Thumb pixels: radius of what speaks most for a fit (a leukocyte and the contrast around it), and of the
smoothing that finds it."""
_COMMON, _EDGE = THUMB_UNIT / 2, 5
"""What two thumbs have in common: points darker (or brighter) than this in both, in a square of this side."""
_LEAST_TEXTURE = 1.5
"""Contrast (standard deviation, grey levels) below which a thumb shows noise, and nothing to go by."""
_PEAK_RADIUS = 4
"""Peaks closer than this (thumb pixels) are one."""
_PEAKS = 6
"""Peaks of the phase correlation that are judged."""
_MOST_STEP = 3.0
"""The second look may correct the first by this many thumb pixels."""
_ROUNDS = 4
"""Of the second look, each on the pictures laid anew."""

_SETTLED = 0.02
"""Thumb pixels: after a step of less the fit is good enough."""

Thumb = NDArray[np.int8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fit:
    """How a thumb lies on a reference."""

    pose: Pose
    """Of the thumb on the reference, thumb pixels."""
    correlation: float
    """Of the two over their overlap, -1..1."""
    overlap: float
    """Share (0..1) of the thumb that lies on the reference."""


def thumbnail(image: Image, hidden: NDArray[np.bool_] | None = None) -> Thumb | None:
    """Return the local contrast of a frame, small and trimmed: the light does not matter to it.

    Shape (height, width), longer side 144. None where the frame shows no texture, or is too thin.

    Args:
        image: the frame.
        hidden: where the thumb is not to show the slide (`edge.dust`) but 0; of its shape.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = THUMB_SIDE / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    if hidden is None:
        contrast = cv2.GaussianBlur(small, (0, 0), 1.0) - cv2.GaussianBlur(small, (0, 0), 10.0)
    else:
        contrast = _contrast_beside(small, np.pad(hidden, TRIM))
    # Near the border the blur leans on the border itself, which does not move with the slide: kept, it
    # pulls every shift towards zero by half a percent.
    contrast = contrast[TRIM:-TRIM, TRIM:-TRIM]
    if min(contrast.shape) < LEAST_SIDE:
        return None
    deviation = float(np.sqrt((contrast**2).mean()))
    if deviation < _LEAST_TEXTURE:
        return None
    return limited(contrast)


def limited(contrast: NDArray[Any]) -> Thumb:
    """Return a contrast as a thumb, in which nothing stands out by more than `_BRIGHTEST` deviations.

    Thumbs that were stored before this was so become such too; the others stay as they are, nearly.
    """
    values = contrast.astype(np.float32)
    most = _BRIGHTEST * float(np.sqrt((values**2).mean()))
    values = np.clip(values, -most, most)
    unit = THUMB_UNIT / float(np.sqrt((values**2).mean()))
    return np.asarray(np.clip(np.round(values * unit), -127, 127), np.int8)


def _contrast_beside(small: Floats, mask: NDArray[np.bool_]) -> Floats:
    """Return the local contrast by the points beside `mask` alone (normalized convolution), 0 on it."""
    seen = np.asarray(~mask, np.float32)
    near, far = (
        cv2.GaussianBlur(small * seen, (0, 0), width) / (cv2.GaussianBlur(seen, (0, 0), width) + 1e-6)
        for width in (1.0, 10.0)
    )
    return np.asarray((near - far) * seen, np.float32)


def thumb_pose(frame: Pose, scale: float) -> Pose:
    """Return how the thumb of a frame lies on the slide in thumb pixels; `scale`: frame pixels to one."""
    corner = _corner(scale)
    x, y = frame.to_slide(corner, corner)
    return Pose(x / scale, y / scale, frame.angle)


def frame_pose(thumb: Pose, scale: float) -> Pose:
    """Return how the frame lies on the slide whose thumb lies there: undoes `thumb_pose`."""
    away = Pose(scale * thumb.x, scale * thumb.y, thumb.angle)
    corner = _corner(scale)
    return Pose(*away.to_slide(-corner, -corner), thumb.angle)


def _corner(scale: float) -> float:
    """Return where the middle of a thumb's first pixel lies in its frame, on either axis."""
    return (TRIM + 0.5) * scale - 0.5


def register(reference: Thumb, thumb: Thumb, angle: float, least_overlap: float) -> Fit | None:
    """Lay `thumb`, turned by about `angle` against `reference`, on it; None where no place stands out.

    Args:
        reference: of the same shape.
        thumb: what to lay.
        angle: radians, right to some 4 degrees.
        least_overlap: share (0..1) of the thumb that must lie on the reference.
    """
    a, b = reference.astype(np.float32), thumb.astype(np.float32)
    height, width = b.shape
    centre = (width - 1) / 2, (height - 1) / 2
    turned = Pose(0, 0, angle)
    x, y = turned.to_slide(*centre)
    turned = replace(turned, x=centre[0] - x, y=centre[1] - y)
    window = _hanning(height, width)
    peaks = _peaks(a * window, _laid(b * window, turned, a.shape))
    fits = []
    for dx, dy in peaks:
        fit = judge(a, b, replace(turned, x=turned.x + dx, y=turned.y + dy))
        if fit.overlap >= least_overlap:
            fits.append(fit)
    if not fits:
        return None
    fits.sort(key=lambda fit: -fit.correlation)
    rival = max((f.correlation for f in fits[1:] if _apart(f.pose, fits[0].pose) > _PEAK_RADIUS), default=0.0)
    best = fits[0].correlation
    # Chance gives a rival 0.2 or less, on a nearly bare slide more; a texture that repeats itself gives it
    # nearly as much as the best, and leaves as much of the picture unexplained.
    if rival > 0.75 * best and (rival > _REPEATED or 1 - best**2 > _CLEARLY * (1 - rival**2)):
        return None
    return refine(reference, thumb, fits[0].pose)


def refine(reference: Thumb, thumb: Thumb, pose: Pose, *, turn_too: bool = True) -> Fit | None:
    """Correct a pose that is right to a pixel or two; None where it moves away from there.

    Args:
        reference: what `thumb` lies on.
        thumb: may have another shape.
        pose: of the thumb on the reference.
        turn_too: False leaves the angle as it is.
    """
    a, b = reference.astype(np.float32), thumb.astype(np.float32)
    first = pose
    for _ in range(_ROUNDS):
        laid, inside = _laid(b, pose, a.shape), _laid(np.ones_like(b), pose, a.shape) > 0.99
        if inside.sum() < LEAST_SIDE**2:
            return None
        weight = inside * _hanning(*a.shape)
        ours, theirs = _even(laid, inside), _even(a, inside)
        along_y, along_x = np.gradient((ours + theirs) / 2)
        x, y = _middle(weight)
        rows, columns = np.indices(a.shape, np.float32)
        slopes = [along_x, along_y]
        if turn_too:
            slopes.append(along_y * (columns - x) - along_x * (rows - y))
        stack = np.stack([s.ravel() for s in slopes])
        weighted = stack * weight.ravel()
        step = np.linalg.lstsq(weighted @ stack.T, weighted @ (ours - theirs).ravel(), rcond=None)[0]
        angle = float(step[2]) if turn_too else 0.0
        about = Pose(0, 0, angle)
        dx, dy = about.to_slide(x, y)
        pose = Pose(x - dx + float(step[0]), y - dy + float(step[1]), angle).after(pose)
        if _apart(pose, first) > _MOST_STEP * 2 or np.hypot(step[0], step[1]) > _MOST_STEP:
            return None
        if np.hypot(step[0], step[1]) + THUMB_SIDE / 2 * abs(angle) < _SETTLED:
            break
    return judge(a, b, pose)


def held(reference: Thumb, thumb: Thumb, pose: Pose, angle: float) -> Fit | None:
    """Correct a pose that is right but for its angle; None where it moves away from there.

    Args:
        reference: what `thumb` lies on.
        thumb: what to lay.
        pose: of the thumb on the reference.
        angle: radians, that the thumb is laid at instead: turned about what both show most of.
    """
    b = thumb.astype(np.float32)
    laid, inside = _laid(b, pose, reference.shape), _laid(np.ones_like(b), pose, reference.shape) > 0.99
    if not inside.any():
        return None
    both = np.abs(_even(laid, inside) * _even(reference.astype(np.float32), inside)) * inside
    x, y = _middle(both)
    kept = replace(pose, angle=angle)
    away_x, away_y = kept.to_slide(*pose.to_frame(x, y))
    kept = replace(kept, x=kept.x + x - away_x, y=kept.y + y - away_y)
    return refine(reference, thumb, kept, turn_too=False)


def judge(reference: Floats, thumb: Floats, pose: Pose) -> Fit:
    """Return how well `thumb` fits where `pose` lays it on `reference`."""
    shape = reference.shape
    laid, inside = _laid(thumb, pose, shape), _laid(np.ones_like(thumb), pose, shape) > 0.99
    count = int(inside.sum())
    if count < LEAST_SIDE**2:
        return Fit(pose, -1.0, 0.0)
    ours, theirs = laid[inside], reference[inside]
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    norm = float(np.sqrt((ours @ ours) * (theirs @ theirs))) + 1e-9
    return Fit(pose, float(ours @ theirs) / norm, count / thumb.size)


def beside(reference: Thumb, thumb: Thumb, pose: Pose) -> tuple[float, float]:
    """Return how well the rest agrees where `pose` lays `thumb`, but for what speaks most for it.

    On a nearly bare slide any leukocyte lies well on any other; what is next to the two does not.

    Returns:
        The correlation (-1..1) over the overlap without the strongest structure, and the share (0..1) of the
        contrast that lies there.
    """
    b = thumb.astype(np.float32)
    laid, inside = _laid(b, pose, reference.shape), _laid(np.ones_like(b), pose, reference.shape) > 0.99
    if not inside.any():
        return -1.0, 0.0
    ours, theirs = _even(laid, inside) * inside, _even(reference.astype(np.float32), inside) * inside
    common = cv2.GaussianBlur(ours * theirs, (0, 0), _SPREAD)
    row, column = np.unravel_index(int(common.argmax()), common.shape)
    y, x = np.ogrid[: common.shape[0], : common.shape[1]]
    rest = inside & ((y - row) ** 2 + (x - column) ** 2 > _STRONGEST**2)
    if not rest.any():
        return -1.0, 0.0
    energy = min(float((part[rest] ** 2).sum()) for part in (ours, theirs)) / float(inside.sum())
    a, b = (part[rest] - part[rest].mean() for part in (ours, theirs))
    return float(a @ b) / (float(np.sqrt((a @ a) * (b @ b))) + 1e-9), min(1.0, energy)


def beside_common(reference: Thumb, thumb: Thumb, pose: Pose) -> tuple[float, float]:
    """Return how well all the rest agrees where `pose` lays `thumb`, but for what both show in one place.

    Returns:
        The correlation (-1..1) over the overlap without what is common, and the share (0..1) of the contrast
        that lies there, of the thumb that has less.
    """
    a, b = reference.astype(np.float32), thumb.astype(np.float32)
    laid, inside = _laid(b, pose, a.shape), _laid(np.ones_like(b), pose, a.shape) > 0.99
    common = (np.minimum(a, laid) > _COMMON) | (np.maximum(a, laid) < -_COMMON)
    rest = inside & (cv2.dilate(common.astype(np.uint8), np.ones((_EDGE, _EDGE), np.uint8)) == 0)
    if not rest.any():
        return 1.0, 0.0
    share = min(float((part[rest] ** 2).sum() / (part[inside] ** 2).sum()) for part in (laid, a))
    a, b = (part[rest] - part[rest].mean() for part in (laid, a))
    return float(a @ b) / (float(np.sqrt((a @ a) * (b @ b))) + 1e-9), share


def _apart(a: Pose, b: Pose) -> float:
    """Return how far (thumb pixels) two poses lay the same point apart, near the middle of a thumb."""
    middle = THUMB_SIDE / 2, THUMB_SIDE / 3
    return math.dist(a.to_slide(*middle), b.to_slide(*middle))


def _even(picture: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Return a picture with mean 0 and deviation 1 over `inside`."""
    values = picture[inside]
    return np.asarray((picture - values.mean()) / (values.std() + 1e-6), np.float32)


def _middle(weight: Floats) -> tuple[float, float]:
    rows, columns = weight.sum(axis=1), weight.sum(axis=0)
    total = float(rows.sum()) + 1e-9
    return float(columns @ np.arange(len(columns))) / total, float(rows @ np.arange(len(rows))) / total


def _laid(picture: Floats, pose: Pose, shape: tuple[int, ...]) -> Floats:
    """Return `picture` moved and turned by `pose`, 0 outside, in a canvas of `shape`."""
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    move = np.array([[cos, -sin, pose.x], [sin, cos, pose.y]])
    height, width = shape
    return np.asarray(cv2.warpAffine(picture, move, (width, height), flags=cv2.INTER_CUBIC), np.float32)


@lru_cache(maxsize=16)
def _hanning(height: int, width: int) -> Floats:
    return np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F), np.float32)


def _peaks(a: Floats, b: Floats) -> list[tuple[float, float]]:
    """Return the likeliest shifts of `b` that lay it on `a`, pixels; each in all its readings.

    The correlation is circular: a shift to the right by x is one to the left by the width less x.
    """
    height, width = a.shape
    spectrum = np.fft.rfft2(a) * np.conj(np.fft.rfft2(b))
    power = np.fft.irfft2(spectrum / (np.abs(spectrum) + 1e-6), s=a.shape).astype(np.float32)
    surface = cv2.GaussianBlur(power, (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE)
    reach = np.arange(-_PEAK_RADIUS, _PEAK_RADIUS + 1)
    shifts = []
    for _ in range(_PEAKS):
        row, column = (int(i) for i in np.unravel_index(int(surface.argmax()), surface.shape))
        for dy in (row, row - height):
            for dx in (column, column - width):
                if abs(dx) < 0.75 * width and abs(dy) < 0.75 * height:
                    shifts.append((float(dx), float(dy)))
        surface[np.ix_((row + reach) % height, (column + reach) % width)] = -np.inf
    return shifts
