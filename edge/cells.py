"""The nouns of the instrument: what flows from the camera to the report.

Images are `uint8` arrays of shape (height, width, 3) in RGB order. Lengths are in pixels (`_px`) of
the image that they belong to, times in seconds (`_s`), probabilities and confidences in 0..1.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
Probabilities: TypeAlias = NDArray[np.float32]


class Role(StrEnum):
    """What a differential does with the cells of a class."""

    COUNTED = "counted"
    """One of the 100 (or 200): a leukocyte."""
    PER_100 = "reported per 100"
    """Outside the 100, given per 100 counted cells: nucleated red cells."""
    REJECTED = "rejected"
    """Not a nucleated cell at all: platelets, smudges, stain."""


@dataclass(frozen=True, slots=True)
class CellClass:
    """One class of the model, as its card lists it."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in an image; `x`, `y` is its upper left corner (pixels, may be fractional)."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """The middle, (x, y) in pixels."""
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def side(self) -> float:
        """The longer side in pixels."""
        return max(self.width, self.height)

    def moved(self, x: float, y: float) -> "Box":
        """Return it so many pixels further to the right, and down."""
        return Box(self.x + x, self.y + y, self.width, self.height)


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera image, or one image file."""

    index: int
    """Position in the source, from 0; skipped images take an index too."""
    time_s: float
    """Seconds since the source was opened, by the source's own clock."""
    image: Image
    name: str | None = None
    """File name where the frame is a file of its own; None for a camera or a video."""
    content: str | None = None
    """Then, what tells the file's picture from others, whatever frame is cut away or light evened out."""
    corner: tuple[int, int] | None = None
    """Where the upper left pixel of what lies within a rim (`edge.rim`), or a plain frame (`edge.void`), lies
    in the picture of the source, pixels; None where the image is all of it."""
    empty: NDArray[np.bool_] | None = None
    """Where a file shows no picture, which `edge.void` filled up, shape (height, width); None if nowhere."""

    def to_source(self, box: Box) -> Box:
        """Return where a box of the image lies in the picture of the source."""
        x, y = self.corner or (0, 0)
        return box.moved(x, y)

    def from_source(self, box: Box) -> Box:
        """Return where a box of the source's picture lies in the image."""
        x, y = self.corner or (0, 0)
        return box.moved(-x, -y)

    @property
    def source(self) -> int | str:
        """How a report refers to this frame: its file name, else its index."""
        return self.index if self.name is None else self.name


@dataclass(frozen=True, slots=True)
class Skip:
    """A frame that could not be had; it is counted and shown, never passed over in silence."""

    index: int
    source: int | str
    reason: str
    gate: str | None = None
    """The quality gate (`edge.gates.Gate`) that refused it, where it could be read."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a leukocyte seems to lie in a frame."""

    box: Box
    """The cell with its cytoplasm, clipped to the frame."""
    whole: bool
    """False where the frame's border cuts the cell: it cannot be classified yet."""
    sure: bool
    """False where the locator doubts that it is one."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the model says of some crops."""

    probabilities: Probabilities
    """Shape (crops, classes); each row sums to 1."""
    strangeness: NDArray[np.float32]
    """Shape (crops,), from 0; above 1 is unlike the training cells. All 0 without an embedding."""
    evidence: NDArray[np.float32] | None = None
    """How much each place of a crop speaks for each class, shape (crops, side, side, classes); below 0
    against it. None where the model file draws no maps."""

    @property
    def heat(self) -> NDArray[np.float32] | None:
        """How much each place speaks for the most probable class: 0..1, shape (crops, side, side).

        The strongest place of a crop is 1, or all are 0.
        """
        if self.evidence is None:
            return None
        top = self.probabilities.argmax(axis=1)
        speaks = np.maximum(self.evidence[np.arange(len(top)), :, :, top], 0)
        strongest = speaks.max(axis=(1, 2), keepdims=True, initial=0)
        return np.asarray(speaks / np.where(strongest > 0, strongest, 1), np.float32)


@dataclass(frozen=True, slots=True)
class Detection:
    """One leukocyte (or what looked like one) in one frame, whole and classified."""

    box: Box
    probabilities: Probabilities
    """Shape (classes,), in the order of the model's card, sums to 1."""
    crop: Image
    """What the model saw, shape (size, size, 3)."""
    sharpness: float
    """How sharp the crop is (`edge.preprocess.sharpness`); 0 is featureless."""
    strangeness: float
    """How unlike the training cells it is (`edge.strangeness`); above 1 is strange."""
    sure: bool
    """False where the locator doubts that it is a leukocyte."""
    heat: NDArray[np.float32] | None = None
    """How much each place of the crop speaks for the class, 0..1, shape (side, side); None without a map."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One physical cell of the smear, counted exactly once."""

    number: int
    """From 1, in the order of counting, without gaps within a specimen."""
    name: str
    """Its class: the most probable one, or the one that a person gave it."""
    confidence: float
    """Probability of the most probable class."""
    probabilities: Probabilities
    """What decides: `network`, given the cell's size (`edge.sizes`) and nucleus (`edge.nucleus`) too, shape
    (classes,)."""
    strangeness: float
    """Weighted mean over all sightings; above 1 is unlike the training cells."""
    source: int | str
    """The frame of the best sighting."""
    box: Box
    """In the pixels of that frame, as its source gave it."""
    slide: tuple[float, float]
    """Centre on the slide, pixels from the first frame's upper left corner; in a field of view of its
    own, the centre in that image."""
    review: bool
    """True where a person must look before the class is believed."""
    crop: bytes
    """Of the best sighting, JPEG."""
    network: Probabilities
    """What the network says: the weighted mean over all sightings, shape (classes,)."""
    namings: int = 0
    """How often a person gave it its class; the last time counts."""
