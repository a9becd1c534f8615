"""Drawn cells for training, so that the shipped model counts the demo too. Evidence of nothing."""

from pathlib import Path

import numpy as np

from edge.drawing import LEUKOCYTES
from edge.smear import Smear
from training.data import Sample, write_image

_VIEW = 2.7
"""Side of a written image over the cell's diameter, like the uncut images of the PBC set."""


def write_cells(folder: Path, per_class: int, seed: int) -> list[Sample]:
    """Draw `per_class` cells of each leukocyte type into `folder` as PNG; return their samples."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    samples = []
    for name in LEUKOCYTES if per_class else ():
        smear = Smear(
            int(rng.integers(2**31)),
            3000,
            2400,
            per_class,
            red_cell_px=float(rng.uniform(42, 60)),
            mix={name: 1.0},
        )
        for number, cell in enumerate(smear.cells):
            side = round(_VIEW * cell.diameter_px)
            view = smear.view(cell.x - side / 2, cell.y - side / 2, side, side)
            path = folder / f"{name}-{number}.png"
            write_image(path, view)
            samples.append(Sample(path, path.name, name, "rendered", "train"))
    return samples
