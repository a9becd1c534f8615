"""What may be wrong with a frame, in the words of the result and of the page."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class Gate(StrEnum):
    """Why a frame is not counted from, or only with a warning; the values are keys of the result."""

    FOCUS = "out of focus"
    MOTION = "motion blur"
    OVER = "over-exposed"
    UNDER = "under-exposed"
    COLOURLESS = "no colour"
    CROWDED = "too crowded"
    SPARSE = "too sparse"
    UNEVEN = "uneven light"
    PALE = "stain too pale"
    DARK = "stain too dark"
    SCALE = "wrong scale"


ADVICE: dict[Gate, str] = {
    Gate.FOCUS: "turn the fine focus",
    Gate.MOTION: "move the stage more slowly",
    Gate.OVER: "turn the lamp down",
    Gate.UNDER: "turn the lamp up",
    Gate.COLOURLESS: "switch the camera's colour on; a stain is told by it",
    Gate.CROWDED: "cells lie over each other; move to a thinner part of the smear",
    Gate.SPARSE: "few cells or none here; move towards the thicker part of the smear",
    Gate.UNEVEN: "centre the lamp and the condenser, or take a flat field",
    Gate.PALE: "nuclei hardly stained; cells may be missed",
    Gate.DARK: "red cells stained almost like nuclei; classes are less sure",
    Gate.SCALE: "um_per_px does not fit the red cells; correct it",
}
"""What to do about it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gates say of one frame; by default that all is well."""

    refused: Gate | None = None
    """Why nothing of the frame may be counted."""
    warnings: tuple[Gate, ...] = ()
    """What else is not as it should be; the frame is counted."""

    @property
    def message(self) -> str:
        """Plain words, "" where all is well: "out of focus: turn the fine focus"."""
        worst = self.refused or (self.warnings[0] if self.warnings else None)
        return f"{worst}: {ADVICE[worst]}" if worst else ""


GOOD = Verdict()
"""All is well."""


class Gates:
    """How many frames of a specimen each gate has acted on."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        """Frames not counted from, by gate."""
        self.warned: Counter[str] = Counter()
        """Frames counted from with a warning, by gate; a frame may have several."""

    def add(self, verdict: Verdict) -> None:
        """Take the verdict on one more frame."""
        if verdict.refused:
            self.refused[verdict.refused] += 1
        self.warned.update(verdict.warnings)
