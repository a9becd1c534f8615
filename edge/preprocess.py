"""From a box in a frame to the square crop that the model sees. Geometry only: arithmetic on the
pixel values (scaling, centring) is part of the model file."""

import cv2
import numpy as np

from edge.cells import Box, Image

CONTEXT = 1.5
"""Side of the crop over the longer side of the box: the whole cell, with some neighbours as a ruler."""


def crop(image: Image, box: Box, size: int) -> Image:
    """Return the square round `box`, `CONTEXT` times its longer side, as (`size`, `size`, 3) RGB.

    Where the square reaches beyond the image, the image's edge is repeated.

    Raises:
        ValueError: the whole square lies outside the image.
    """
    side = max(2, round(CONTEXT * box.side))
    x, y = box.centre
    left, top = round(x - side / 2), round(y - side / 2)
    height, width = image.shape[:2]
    if not (-side < left < width and -side < top < height):
        raise ValueError(f"{box} lies outside the image of {width} x {height} pixels")
    inner = image[max(top, 0) : min(top + side, height), max(left, 0) : min(left + side, width)]
    padded = cv2.copyMakeBorder(
        inner,
        max(-top, 0),
        max(top + side - height, 0),
        max(-left, 0),
        max(left + side - width, 0),
        cv2.BORDER_REPLICATE,
    )
    shrinks = side > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(padded, (size, size), interpolation=method), np.uint8)


def sharpness(crop_image: Image) -> float:
    """Return the variance of the Laplacian (grey levels squared): higher is better focused."""
    grey = cv2.cvtColor(crop_image, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())
