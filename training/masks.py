"""Images that are no photographs: plain squares, and the masks beside the cells of many data sets."""

import cv2
import numpy as np

from edge.cells import Image

_GROUND = 8
"""Grey levels (0..255) from the commonest one that are ground still: noise, and what JPEG leaves at edges."""
_NOTHING = 0.001
"""Share of an image beside its ground that shows nothing."""
_GREY_DRAWN, _DRAWN = 0.25, 0.97
"""Share of what is left that lies on its two commonest levels, from which it is drawn: of an image without
colour, and of any. JPEG blurs the levels of a mask, and leaves it grey; a palette narrows those of a cell."""
_COLOUR = 4
"""Greatest difference of two colours (0..255) at one place of an image without colour."""


def is_drawn(image: Image) -> bool:
    """Return whether an image has as few grey levels as a mask, or one alone.

    A photograph has more, but where most of it is too dark or too bright to be told.

    Args:
        image: RGB as it is stored, before `edge.void` fills it.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    number = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel()
    ground = int(number.argmax())
    number[max(0, ground - _GROUND) : ground + _GROUND + 1] = 0
    left = number.sum()
    if left <= _NOTHING * grey.size:
        return True
    share = np.sort(number)[-2:].sum() / left
    return bool(share >= _DRAWN or (share >= _GREY_DRAWN and _is_grey(image)))


def _is_grey(image: Image) -> bool:
    red, green, blue = cv2.split(image)
    return max(int(cv2.absdiff(red, other).max()) for other in (green, blue)) <= _COLOUR
