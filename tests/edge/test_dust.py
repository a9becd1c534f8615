import numpy as np

from edge.dust import Dust
from edge.register import THUMB_UNIT, Thumb

SHAPE = (60, 80)


def views(number: int, seed: int = 0) -> list[Thumb]:
    rng = np.random.default_rng(seed)
    return [
        np.clip(rng.normal(0, THUMB_UNIT, SHAPE), -127, 127).round().astype(np.int8) for _ in range(number)
    ]


def dusty(number: int) -> list[Thumb]:
    found = views(number)
    for view in found:
        view[20:23, 30:34] = -2 * THUMB_UNIT
    return found


def test_what_stays_dark_while_the_slide_moves_is_dust() -> None:
    dust = Dust()
    for view in dusty(12):
        dust.learn(view)
    mask = dust.mask(SHAPE)
    assert mask is not None
    assert mask[20:23, 30:34].all()
    assert mask.mean() < 0.06


def test_a_bright_legend_that_stays_is_like_dust() -> None:
    dust = Dust()
    for view in views(12):
        view[5:9, 10:40] = 2 * THUMB_UNIT
        dust.learn(view)
    mask = dust.mask(SHAPE)
    assert mask is not None
    assert mask[5:9, 10:40].all()


def test_one_view_again_and_again_is_one() -> None:
    dust, once = Dust(), dusty(6)
    for view in once[:5]:
        for _ in range(4):
            dust.learn(view)
    assert dust.mask(SHAPE) is None
    dust.learn(once[5])
    assert dust.mask(SHAPE) is not None


def test_few_views_tell_nothing() -> None:
    dust = Dust()
    for view in dusty(5):
        dust.learn(view)
    assert dust.mask(SHAPE) is None


def test_the_dust_of_one_frame_size_says_nothing_of_another() -> None:
    dust = Dust()
    for view in dusty(12):
        dust.learn(view)
    assert dust.mask((80, 60)) is None
    dust.learn(views(1)[0].T.copy())
    assert dust.mask(SHAPE) is None


def test_a_picture_that_never_changes_is_no_dust() -> None:
    dust = Dust()
    for noise in views(12):
        stripes = np.where(np.arange(80) < 40, -50, 50) * np.ones((60, 1))
        dust.learn(np.clip(stripes + noise, -127, 127).astype(np.int8))
    assert dust.mask(SHAPE) is None
