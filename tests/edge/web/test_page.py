"""The live page in a real browser."""

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cells import Box, Cell
from edge.errors import UserError
from edge.lis.outbox import Outbox, State
from edge.live import Label, Latest, Naming, View, Wishes
from edge.mosaic import Coverage, MapView
from edge.web.encode import CELLS_SHOWN
from edge.web.server import PageServer, build_app
from tests.edge.lis.reports import release

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENS = {"screen": (1280, 800), "phone": (390, 844)}
EVIL = "<img src=x onerror=\"document.title='evil'\">"
LONG = "W" * 64


def share(name: str, count: int, percent: float, low: float, high: float) -> dict[str, Any]:
    limits = {"percent": percent, "low": low, "high": high, "per_100": None}
    return {"name": name, "role": "counted", "count": count, **limits}


def apart(name: str, role: str, count: int, per_100: float | None) -> dict[str, Any]:
    return {"name": name, "role": role, "count": count, "percent": None, "low": None, "high": None} | {
        "per_100": per_100
    }


STATE: dict[str, Any] = {
    "specimen": "S-1",
    "phase": "counting",
    "message": "stage lost: move back to a place already seen",
    "total": 150,
    "target": 200,
    "unsettled": ["fewer than the 200 cells of a final result", "4 to review"],
    "review": 4,
    "namings": 0,
    "revisions": 0,
    "frames": 1204,
    "fields": 37,
    "skipped": 5,
    "skips": {"cut short": 2, "not an image": 1},
    "gated": {},
    "empty": 11,
    "rim": False,
    "warned": {},
    "fps": 11.84,
    "source": "demo",
    "classes": [
        share("neutrophil", 90, 60.0, 52.0, 67.5),
        share("immature_granulocyte", 60, 40.04, 32.46, 47.96),
        apart("erythroblast", "reported per 100", 3, 2.0),
        apart("platelet", "rejected", 11, 7.3),
    ],
    "model": {"name": "wbc", "sha256": "0123456789abcdef" * 4},
    "stage": [12.4, 530.6, 0.0],
    "frame": [640, 480],
    "lis": None,
    "map": None,
}
LABELS = (
    Label(Box(100, 100, 200, 200), "neutrophil", 0.984, 90, np.eye(6, dtype=np.float32)),
    Label(Box(400, 300, 100, 100), "immature_granulocyte", 0.71, None),
)


def view(**changes: Any) -> View:
    """A grey picture with two cells, and the state with some changes."""
    return View(np.full((480, 640, 3), 128, np.uint8), LABELS, STATE | changes)


class Page:
    """The page in the browser, and what it is connected to."""

    def __init__(self, browser: Any, server: PageServer, latest: Latest, wishes: Wishes) -> None:
        self.browser, self.server, self.latest, self.wishes = browser, server, latest, wishes

    def show(self, shown: View, screen: str = "screen") -> None:
        """Open the page afresh, with this view on it."""
        width, height = SCREENS[screen]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone"}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.latest.put(shown)
        self.browser.get(self.server.url)
        self.until(lambda: self.text("specimen") == shown.state["specimen"])
        self.until(lambda: self.picture_label().startswith("On the picture"))

    def until(self, true: Callable[[], object]) -> None:
        """Wait for something to come true, 5 s at most."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 5, poll_frequency=0.05).until(lambda _: true())

    def run(self, script: str, *arguments: Any) -> Any:
        """Return the value of a JavaScript expression."""
        return self.browser.execute_script(f"return {script}", *arguments)

    def text(self, name: str) -> str:
        return str(self.run("document.getElementById(arguments[0]).textContent", name))

    def visible(self, name: str) -> bool:
        return bool(self.browser.find_element("id", name).is_displayed())

    def row(self, name: str) -> list[str]:
        """The texts of one class: name, count, percent (or per 100), limits."""
        script = (
            "['.name', '.cells', '.percent', '.limits'].map("
            "(part) => document.querySelector(`[data-class=${arguments[0]}] ${part}`).textContent)"
        )
        return list(self.run(script, name))

    def picture_label(self) -> str:
        return str(self.browser.find_element("id", "picture").get_attribute("aria-label"))

    def press(self, *keys: str) -> None:
        """Type as fast as the browser allows."""
        from selenium.webdriver import ActionChains

        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def enter(self, kind: str, *, repeat: bool = False) -> None:
        """Have Enter go down or up (`kind` is "keyDown" or "keyUp"), or repeat since it is held."""
        key = {"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.browser.execute_cdp_cmd("Input.dispatchKeyEvent", key | {"autoRepeat": repeat})

    def errors(self) -> list[str]:
        """What the console complained about since the last look."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


def cell(number: int, top: int, x: float, y: float, *, network: int, review: bool = False) -> Cell:
    """A counted cell, 90 pixels wide, of the class that STATE has in this place."""
    shares, alone = (0.97 * np.eye(4, dtype=np.float32)[i] + 0.0075 for i in (top, network))
    name = STATE["classes"][top]["name"]
    return Cell(number, name, 0.97, shares, 0.1, 3, Box(0, 0, 90, 90), (x, y), review, b"", alone)


def mapped(**changes: Any) -> View:
    """The view with a map of 1600 x 1200 slide pixels and two cells on it."""
    picture = np.full((150, 200, 3), 90, np.uint8)
    cells = (cell(1, 3, 900, 400, network=0, review=True), cell(2, 1, 1300, 900, network=1, review=True))
    seen = MapView(picture, (100.0, 200.0), 8.0, Coverage(0.63, 0.9, 1e6), cells)
    facts = {"fields": 37, "mm2": 0.42, "seen_share": 0.63, "monolayer_share": 0.9, "version": 3}
    return replace(view(map=facts, **changes), map=seen)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium; without one these tests are skipped, or fail where REQUIRE_BROWSER is set."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        webdriver = None
    if not (binary and driver and webdriver):
        reason = "no browser: install chromium, chromedriver and selenium"
        pytest.fail(reason) if os.environ.get("REQUIRE_BROWSER") else pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    chromium = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chromium
    chromium.quit()


@pytest.fixture(scope="module")
def served(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One page for all tests, in one browser; a message waits in its outbox."""
    database = tmp_path_factory.mktemp("outbox") / "c.sqlite"
    release(database, "S-1")
    latest, wishes = Latest(), Wishes()
    server = PageServer(build_app(latest, wishes, threading.Event(), None, database), "127.0.0.1", 0)
    server.start()
    yield Page(browser, server, latest, wishes)
    browser.get("about:blank")
    server.stop()


@pytest.fixture
def page(served: Page) -> Page:
    """The page with no wish open and no complaint in the console."""
    served.wishes.pause(False)
    served.wishes.take_specimen()
    served.errors()
    return served


def test_the_numbers_are_those_of_the_state(page: Page) -> None:
    page.show(view())
    assert page.row("neutrophil") == ["neutrophil", "90", "60.0", "52.0\u201367.5"]
    assert page.row("immature_granulocyte") == ["immature granulocyte", "60", "40.0", "32.5\u201348.0"]
    assert page.row("erythroblast")[:3] == ["erythroblast", "3", "2.0"]
    assert page.row("platelet")[:2] == ["platelet", "11"]
    shown = {
        "specimen": "S-1",
        "phase": "counting",
        "total": "150",
        "target": "of 200",
        "review": "4",
        "frames": "1,204",
        "fields": "37",
        "skipped": "5 (2 times cut short; not an image; and others)",
        "without": "11 images",
        "fps": "11.8/s",
        "source": "demo",
        "position": "x 12 y 531",
        "model": "wbc",
        "hash": "01234567",
        "message": STATE["message"],
        "spoken": "counting: 150 of 200",
    }
    assert {name: page.text(name) for name in shown} == shown
    assert "For Research Use Only. Not for use in diagnostic procedures." in page.run(
        "document.body.innerText"
    )
    assert page.errors() == []


def test_bar_and_whisker_are_to_scale(page: Page) -> None:
    page.show(view())
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    )
    script = """(() => {
        const row = document.querySelector('[data-class=neutrophil]');
        const bar = row.querySelector('.bar').getBoundingClientRect();
        const [fill, whisker] = ['.fill', '.whisker'].map(
            (part) => row.querySelector(part).getBoundingClientRect());
        return [fill.right, whisker.left, whisker.right].map((x) => 100 * (x - bar.left) / bar.width);
    })()"""
    assert page.run(script) == pytest.approx([60.0, 52.0, 67.5], abs=0.5)


def test_boxes_lie_where_the_cells_are_in_the_colour_of_their_bar(page: Page) -> None:
    page.show(view())
    assert page.picture_label() == "On the picture: 90 · neutrophil 98 %, immature granulocyte 71 %"
    script = """(() => {
        const canvas = document.getElementById('picture');
        const scale = Math.min(canvas.width / 640, canvas.height / 480);
        const [left, top] = [(canvas.width - 640 * scale) / 2, (canvas.height - 480 * scale) / 2];
        const pen = canvas.getContext('2d');
        const at = (x, y) => [...pen.getImageData(left + x * scale, top + y * scale, 1, 1).data];
        const bar = document.querySelector('[data-class=neutrophil] .fill');
        const fill = getComputedStyle(bar).backgroundColor;
        return [at(100, 200), at(200, 300), at(200, 200), fill.match(/\\d+/g).map(Number)];
    })()"""
    left_side, under_side, inside, bar = page.run(script)
    assert left_side[:3] == under_side[:3] == bar
    assert inside[:3] == pytest.approx([128, 128, 128], abs=2)


@pytest.mark.parametrize("screen", SCREENS)
def test_no_caption_covers_another(page: Page, screen: str) -> None:
    """Of crowded cells the counted ones show at least their number, as far as there is room."""
    page.show(view(), screen)
    page.run("""(() => {
        window.captions = [];
        const pen = CanvasRenderingContext2D.prototype;
        const [write, clear] = [pen.fillText, pen.drawImage];
        pen.drawImage = function (...rest) { window.captions = []; clear.apply(this, rest); };
        pen.fillText = function (text, x, y) {
            const width = this.measureText(text).width;
            window.captions.push({ text, x: x - 9, w: width + 18, y: y - 11, h: 20 });
            write.call(this, text, x, y);
        };
    })()""")
    crowd = [Label(Box(200 + 30 * i, 200, 90, 90), "neutrophil", 0.9, i + 1) for i in range(4)]
    crowd += [Label(Box(210 + 30 * i, 205, 90, 90), "neutrophil", 0.9, None) for i in range(4)]
    page.latest.put(replace(view(), labels=tuple(crowd)))
    page.until(lambda: page.picture_label().count("neutrophil") == 8)
    shown = page.run("window.captions")
    texts = [caption["text"] for caption in shown]
    assert {text.split(" ")[0] for text in texts} >= {"1", "2", "3", "4"}
    assert len(shown) < 8
    for i, a in enumerate(shown):
        for b in shown[:i]:
            beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


def test_what_spoke_for_a_class_lies_over_its_cell_on_request(page: Page) -> None:
    page.show(view())
    script = """(() => {
        const canvas = document.getElementById('picture');
        const scale = Math.min(canvas.width / 640, canvas.height / 480);
        const [left, top] = [(canvas.width - 640 * scale) / 2, (canvas.height - 480 * scale) / 2];
        const at = (x, y) => [...canvas.getContext('2d').getImageData(
            left + x * scale, top + y * scale, 1, 1).data].slice(0, 3);
        return [at(175, 175), at(275, 130), at(60, 60), at(345, 56), at(450, 340)];
    })()"""
    grey = [128, 128, 128]
    assert page.run(script)[0] == pytest.approx(grey, abs=2)
    page.press("w")
    page.until(lambda: page.run("document.getElementById('why').ariaPressed") == "true")
    middle, beside, corner, outside, other = page.run(script)
    assert middle[0] > grey[0] + 20  # hot places are yellow
    assert middle[2] < grey[2] - 20
    assert corner[0] > grey[0] + 20  # the model sees 1.5 times the box
    assert beside[0] < grey[0] - 20  # cold places are violet
    assert outside[0] < grey[0] - 20
    assert other == pytest.approx(grey, abs=2)  # a cell without a map
    page.browser.find_element("id", "why").click()
    assert page.run(script)[0] == pytest.approx(grey, abs=2)


def test_before_the_first_cell_there_is_no_percentage(page: Page) -> None:
    none_yet = [
        entry | {"count": 0, "percent": None, "low": None, "high": None} for entry in STATE["classes"]
    ]
    page.show(view(total=0, target=None, message="", skipped=0, empty=0, stage=None, classes=none_yet))
    assert page.row("neutrophil") == ["neutrophil", "0", "\u2013", ""]
    assert page.text("target") == "cells"
    assert not page.visible("message")
    assert not page.visible("skipped-line")
    assert not page.visible("without-line")


def test_the_page_follows_the_count(page: Page) -> None:
    page.show(view())
    more = [share("monocyte", 201, 100.0, 98.1, 100.0)]
    page.latest.put(view(total=201, phase="finished", message="target of 200 reached", classes=more))
    page.until(lambda: page.text("total") == "201")
    assert page.row("monocyte") == ["monocyte", "201", "100.0", "98.1\u2013100.0"]
    assert page.run("document.querySelectorAll('[data-class]').length") == 1
    assert page.text("phase") == "finished"
    assert page.text("empty") == "The count has ended"
    assert not page.browser.find_element("id", "pause").is_enabled()


def test_the_last_picture_stays_when_the_target_is_reached(page: Page) -> None:
    page.show(view())
    page.latest.put(view(phase="finished", message="target reached", unsettled=[]))
    page.until(lambda: page.text("phase") == "finished")
    assert page.text("message") == "target reached"
    page.latest.put(view(phase="finished", message="target reached", unsettled=["4 to review"]))
    page.until(lambda: page.text("message") == "target reached; not final: 4 to review")
    assert not page.visible("empty")
    assert page.picture_label().startswith("On the picture: 90")


def test_frames_that_were_gated_are_told_by_reason(page: Page) -> None:
    page.show(view())
    assert not page.visible("gated-line")
    assert not page.visible("warned-line")
    page.show(view(gated={"out of focus": 12, "too crowded": 1200}, warned={"uneven light": 3}))
    assert page.text("gated") == "out of focus 12, too crowded 1,200"
    assert page.text("warned") == "uneven light 3"


def test_without_a_map_there_is_no_button_for_it(page: Page) -> None:
    page.show(view())
    assert not page.visible("map-button")
    page.press("m")
    assert not page.visible("map-panel")


@pytest.mark.parametrize("screen", SCREENS)
def test_the_map_shows_where_a_cell_is(page: Page, screen: str) -> None:
    page.show(mapped(), screen)
    assert not page.visible("map-panel")
    page.browser.find_element("id", "map-button").click()
    page.until(lambda: page.run("document.querySelectorAll('#cells button').length") == 2)
    assert page.text("map-facts") == (
        "37 fields, 0.42 mm²; 63 % of the rectangle round them seen, 90 % of that monolayer"
    )
    assert page.run("document.documentElement.scrollWidth") == SCREENS[screen][0]
    newest = "document.querySelector('#cells button')"
    assert page.run(f"{newest}.textContent") == "2immature granulocyte · review"
    page.run(f"{newest}.click()")
    assert page.text("found") == "cell 2: immature granulocyte 97 %, to review (unsure); x 1300 y 900"
    page.run("document.querySelectorAll('#cells button')[1].click()")
    why = "to review (too pale for a nucleus; it looks like neutrophil)"
    assert page.text("found") == f"cell 1: platelet 97 %, {why}; x 900 y 400"
    page.run(f"{newest}.click()")
    assert page.run(f"{newest}.ariaPressed") == "true"
    assert "cell 2: immature" in page.run("document.getElementById('map').ariaLabel")
    # The ring lies round the cell: 1200 slide pixels right of the corner are 150 of the picture's 200.
    white = """(() => {
        const canvas = document.getElementById('map');
        const zoom = Math.min(canvas.width / 200, canvas.height / 150);
        const [left, top] = [(canvas.width - 200 * zoom) / 2, (canvas.height - 150 * zoom) / 2];
        const radius = Math.max(9, 0.8 * 90 * zoom / 8);
        const [x, y] = [left + 150 * zoom - radius, top + 87.5 * zoom];
        return [...canvas.getContext('2d').getImageData(Math.round(x), Math.round(y), 1, 1).data];
    })()"""
    assert page.run(white)[:3] == pytest.approx([255, 255, 255], abs=30)
    assert page.errors() == []


def test_a_cell_pressed_on_the_map_is_named(page: Page) -> None:
    page.show(mapped())
    page.press("m")
    page.until(lambda: page.run("document.querySelectorAll('#cells button').length") == 2)
    page.run("""(() => {
        const canvas = document.getElementById('map');
        const { clientWidth: w, clientHeight: h } = canvas;
        const zoom = Math.min(w / 200, h / 150);
        const box = canvas.getBoundingClientRect();
        const [x, y] = [(w - 200 * zoom) / 2 + 100 * zoom + 5, (h - 150 * zoom) / 2 + 25 * zoom];
        canvas.dispatchEvent(new MouseEvent('click', { clientX: box.left + x, clientY: box.top + y }));
    })()""")
    assert page.text("found").startswith("cell 1: platelet 97 %")


@pytest.mark.parametrize("screen", SCREENS)
def test_the_cells_to_review_can_be_shown_alone(page: Page, screen: str) -> None:
    shown = mapped()
    assert shown.map is not None
    sure, doubted = shown.map.cells
    one_sure = replace(shown.map, cells=(replace(sure, review=False), doubted))
    page.show(replace(shown, map=one_sure), screen)
    page.browser.find_element("id", "map-button").click()
    page.until(lambda: page.run("document.querySelectorAll('#cells button').length") == 2)
    listed = """[...document.querySelectorAll('#cells button')]
        .filter((one) => one.offsetParent).map((one) => one.textContent.trim())"""

    def coloured() -> int:
        return page.run("""(() => {
            const canvas = document.getElementById('map');
            const shot = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            let rings = 0;
            for (let i = 0; i < shot.length; i += 4) rings += Math.abs(shot[i] - shot[i + 1]) > 60;
            return rings;
        })()""")

    only = page.browser.find_element("id", "review-only")
    page.run("document.querySelector('#cells button').click()")
    both = coloured()
    page.run("document.getElementById('review-only').click()")
    assert page.run("document.querySelector('#cells button').ariaPressed") == "true", "the choice is kept"
    assert page.run(listed) == ["2immature granulocyte · review"]
    assert only.get_attribute("aria-pressed") == "true"
    assert 0 < coloured() < both
    assert page.run("document.documentElement.scrollWidth") == SCREENS[screen][0]
    page.run("document.getElementById('review-only').click()")
    assert coloured() == both
    assert len(page.run(listed)) == 2


def doubted(shown: View, numbers: Iterable[int] = (1, 2)) -> View:
    """The view with cells to review, of images of their own; the first has no nucleus."""
    jpeg = cv2.imencode(".jpg", np.full((192, 192, 3), (40, 40, 200), np.uint8))[1].tobytes()
    cells = tuple(
        replace(
            cell(n, 3 if n == 1 else 1, 900, 400, network=0 if n == 1 else 1, review=True),
            crop=jpeg,
            source=f"field {n} {EVIL}.png",
        )
        for n in numbers
    )
    first, *others = shown.state["classes"]
    classes = [{**first, "count": len(cells)}, *({**one, "count": 0} for one in others)]
    return replace(shown, cells=cells, state={**shown.state, "review": len(cells), "classes": classes})


CARDS = "[...document.querySelectorAll('#gallery li')]"


@pytest.mark.parametrize("screen", SCREENS)
def test_the_cells_to_review_are_shown_with_their_pictures(page: Page, screen: str) -> None:
    page.show(doubted(view()), screen)
    page.browser.find_element("id", "review-show").click()
    assert page.visible("review-dialog")
    page.until(lambda: page.run(f"{CARDS}.length") == 2)
    words = f"{CARDS}.map((one) => [...one.querySelectorAll('p')].map((p) => p.textContent))"
    assert page.run(words) == [
        ["1 platelet 97\u00a0%", "too pale for a nucleus; it looks like neutrophil", f"field 1 {EVIL}.png"],
        ["2 immature granulocyte 97\u00a0%", "unsure", f"field 2 {EVIL}.png"],
    ]
    page.until(lambda: page.run(f"{CARDS}.every((one) => one.querySelector('img').naturalWidth === 192)"))
    assert not page.run(f"{CARDS}.some((one) => one.querySelector('.reveal').offsetParent)"), "no map"
    assert page.run("document.documentElement.scrollWidth") == SCREENS[screen][0]
    assert page.run("document.title") != "evil"
    page.browser.find_element("id", "review-close").click()
    assert not page.visible("review-dialog")
    page.latest.put(view(review=0, classes=[{**one, "count": 0} for one in STATE["classes"]]))
    page.until(lambda: not page.visible("review-show"))
    page.press("c")
    assert not page.visible("review-dialog")
    assert page.errors() == []


def asked_name(page: Page, answer: UserError | None = None) -> tuple[str, int, str, int]:
    """Answer the next naming as the count does; return what was asked."""
    taken: list[Naming] = []
    page.until(lambda: taken.extend(filter(None, [page.wishes.take_naming()])) or taken)
    (asked,) = taken
    if answer:
        asked.answer.set_exception(answer)
    else:
        asked.answer.set_result(None)
    return asked.specimen, asked.number, asked.name, asked.namings


FOCUSED = "document.activeElement.ariaLabel"


@pytest.mark.parametrize("screen", SCREENS)
def test_a_person_names_the_cells_one_after_another(page: Page, screen: str) -> None:
    page.show(doubted(view(), (1, 2, 3)), screen)
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 3)
    chosen = f"{CARDS}.map((one) => one.querySelector('select').selectedOptions[0].textContent)"
    assert page.run(chosen) == ["platelet", "immature granulocyte", "immature granulocyte"]
    confirm = page.browser.find_elements("css selector", "#gallery .confirm")
    confirm[0].click()
    page.run("arguments[0].click()", confirm[0])
    assert asked_name(page) == ("S-1", 1, "platelet", 0)
    assert page.wishes.take_naming() is None, "a double click names once"
    page.until(lambda: page.run(FOCUSED) == "Class of cell 2")
    assert page.text("review-said") == "cell 1 named platelet"
    page.run("arguments[0].click()", confirm[0])
    assert page.text("review-refusal") == "Cell 1: decided anew just now; look at it, then confirm."
    assert page.wishes.take_naming() is None, "nor does a slow one name twice"
    # By keys alone: the class before it in the list, and Enter.
    page.press("\ue013")
    page.until(lambda: page.run(f"{CARDS}[1].classList.contains('chosen')"))
    sleep(0.3)
    page.press("\ue007")
    assert asked_name(page) == ("S-1", 2, "neutrophil", 0)
    words = f"{CARDS}.map((one) => one.querySelector('.what').textContent)"
    named = ["platelet · named", "neutrophil · named", "immature granulocyte 97\u00a0%"]
    page.until(lambda: page.run(words) == named)
    assert page.run(f"{CARDS}.map((one) => one.className)") == ["", "", "doubtful"]
    why = page.run(f"{CARDS}[1].querySelector('.why').textContent")
    assert why == "the instrument said immature granulocyte 97\u00a0%"
    # It can be named again; the focus is the person's meanwhile.
    page.run(f"{CARDS}[1].querySelector('select').value = 'platelet'")
    confirm[1].click()
    page.run(f"{CARDS}[0].querySelector('select').focus()")
    assert asked_name(page) == ("S-1", 2, "platelet", 1)
    page.until(lambda: page.run(words)[1] == "platelet · named")
    assert page.run(FOCUSED) == "Class of cell 1"
    assert page.run("document.documentElement.scrollWidth") == SCREENS[screen][0]
    assert page.errors() == []


@pytest.mark.parametrize("part", ["select", ".confirm"])
def test_an_enter_that_is_held_names_one_cell(page: Page, part: str) -> None:
    page.show(doubted(view(), (1, 2, 3)))
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 3)
    page.run(f"{CARDS}[0].querySelector('{part}').focus()")
    sleep(0.3)
    page.enter("keyDown")
    assert asked_name(page) == ("S-1", 1, "platelet", 0)
    page.until(lambda: page.run(FOCUSED) == "Class of cell 2")
    sleep(0.3)
    page.enter("keyDown", repeat=True)
    page.enter("keyUp")
    sleep(0.3)
    assert page.wishes.take_naming() is None


def test_a_name_that_is_refused_is_told_and_its_cell_shown_anew(page: Page) -> None:
    shown = doubted(view(), (1, 2))
    page.show(shown)
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 2)
    first, second = shown.cells
    named = replace(second, name="neutrophil", namings=1, review=False)
    page.latest.put(replace(shown, cells=(first, named)))
    page.run(f"{CARDS}[1].querySelector('.confirm').click()")
    asked_name(page, UserError("it was named neutrophil meanwhile; look at it again"))
    told = "Cell 2: it was named neutrophil meanwhile; look at it again"
    page.until(lambda: page.text("review-refusal") == told)
    page.until(lambda: page.run(f"{CARDS}[1].querySelector('.what').textContent") == "neutrophil · named")
    page.run(f"{CARDS}[1].querySelector('.confirm').click()")
    assert asked_name(page) == ("S-1", 2, "neutrophil", 1)
    # Another page begins the next specimen before the answer comes.
    page.run(f"{CARDS}[0].querySelector('.confirm').click()")
    page.latest.put(doubted(view(specimen="OTHER"), (1,)))
    page.until(lambda: not page.visible("review-dialog"))
    assert page.text("message") == "the list of cells was closed: the count is now that of OTHER"
    asked_name(page, UserError("the count is now that of OTHER"))
    page.until(lambda: page.text("message") == "Cell 1: the count is now that of OTHER")


def test_a_class_that_was_chosen_is_not_lost_without_a_word(page: Page) -> None:
    page.show(doubted(view(), (1, 2)))
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 2)
    page.run(f"{CARDS}[1].querySelector('select').focus()")
    page.press("\ue013")
    page.until(lambda: page.run(f"{CARDS}[1].classList.contains('chosen')"))
    for leave in ("review-close", "review-all", "review-close"):
        assert page.visible("review-dialog")
        page.run("document.getElementById(arguments[0]).click()", leave)
        if leave == "review-close" and page.visible("review-dialog"):
            assert page.text("review-refusal").startswith("Cell 2: chosen, but not confirmed.")
    assert not page.visible("review-dialog")


def test_a_barcode_names_no_cell(page: Page) -> None:
    page.show(doubted(view(), (1, 2)))
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 2)
    for part in (".confirm", "select"):
        page.run(f"{CARDS}[1].querySelector('{part}').focus()")
        page.press(*"N-47 11", "\ue007")
    assert page.run(f"{CARDS}[1].querySelector('select').value") == "immature_granulocyte"
    assert page.wishes.take_naming() is None
    assert page.visible("review-dialog")


def test_all_cells_are_shown_on_request(page: Page) -> None:
    shown = doubted(view(), (1, 2, 3))
    sure = (
        shown.cells[0],
        *(replace(cell, review=False, namings=int(cell.number == 3)) for cell in shown.cells[1:]),
    )
    page.show(replace(shown, cells=sure, state={**shown.state, "review": 1}))
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 1)
    assert page.text("review-title") == "Cells to review"
    page.browser.find_element("id", "review-all").click()
    page.until(lambda: page.run(f"{CARDS}.length") == 3)
    assert page.text("review-title") == "All cells"
    words = f"{CARDS}.map((one) => one.querySelector('.what').textContent.split(' ').at(-1))"
    assert page.run(words) == ["97\u00a0%", "97\u00a0%", "named"]
    page.browser.find_element("id", "review-close").click()
    # Without a cell to review all are shown at once.
    page.latest.put(replace(shown, cells=sure[1:], state={**shown.state, "review": 0}))
    page.until(lambda: page.text("review") == "0")
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 2)


def test_the_map_shows_the_name_that_a_person_gave(page: Page) -> None:
    drawn = mapped()
    page.show(drawn)
    page.press("m")
    page.until(lambda: page.run("document.querySelectorAll('#cells .what').length") == 2)
    page.run("[...document.querySelectorAll('#cells button')].at(-1).click()")
    assert page.text("found").startswith("cell 1: platelet 97 %, to review")
    assert drawn.map is not None
    first, second = drawn.map.cells
    named = replace(first, name="neutrophil", review=False, namings=1)
    facts = {**drawn.state["map"], "version": 4}
    page.latest.put(
        replace(drawn, map=replace(drawn.map, cells=(named, second)), state={**drawn.state, "map": facts})
    )
    listed = "[...document.querySelectorAll('#cells .what')].map((one) => one.textContent)"
    page.until(lambda: page.run(listed) == ["immature granulocyte · review", "neutrophil · named"])
    assert page.text("found") == "cell 1: neutrophil, named by a person; x 900 y 400"


def test_cells_to_review_join_an_open_list_and_many_come_in_parts(page: Page) -> None:
    page.show(doubted(view(), range(1, 4)))
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 3)
    page.run(f"{CARDS}[0].setAttribute('id', 'kept')")
    many = 9 * CELLS_SHOWN + 3
    page.latest.put(doubted(view(), range(1, many + 1)))
    page.until(lambda: page.run(f"{CARDS}.length") > CELLS_SHOWN)
    page.until(lambda: "more further down" in page.text("review-more"))
    sleep(1.5)
    assert page.run(f"{CARDS}.length") < many - CELLS_SHOWN, "what is far down is not fetched unseen"
    bottom = "(document.getElementById('gallery').scrollTop = 1e9)"
    page.until(lambda: page.run(f"{bottom} && {CARDS}.length") == many)
    assert page.run(f"{CARDS}.map((one) => Number(one.dataset.number))") == list(range(1, many + 1))
    assert page.run(f"{CARDS}[0].id") == "kept", "what a person looks at is not drawn anew"
    page.until(lambda: page.text("review-more") == "")


def decided(shown: View, revisions: int, *cells: Cell) -> View:
    """The view with its cells decided again."""
    state = {**shown.state, "revisions": revisions, "review": sum(cell.review for cell in cells)}
    return replace(shown, cells=cells, state=state)


WHAT = f"{CARDS}.map((one) => one.querySelector('.what').textContent)"


def test_a_listed_cell_that_is_decided_again_changes_on_its_card(page: Page) -> None:
    shown = doubted(view(), (1, 2, 3))
    page.show(shown)
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 3)
    first, second, third = shown.cells
    page.run(f"{CARDS}[1].querySelector('select').focus()")
    page.run(f"(({CARDS}[2].querySelector('select')).value = 'platelet', 0)")
    page.run(f"{CARDS}[2].querySelector('select').dispatchEvent(new Event('change'))")
    otherwise = replace(second, name="neutrophil", review=False)
    page.latest.put(
        decided(shown, 3, replace(first, review=False), otherwise, replace(third, name="neutrophil"))
    )
    page.until(lambda: page.run(WHAT)[1] == "neutrophil 97\u00a0%")
    # Who was just about to confirm has not seen the new class.
    page.run(f"{CARDS}[1].querySelector('.confirm').click()")
    assert page.text("review-refusal") == "Cell 2: decided anew just now; look at it, then confirm."
    assert page.wishes.take_naming() is None
    assert page.run(FOCUSED) == "Class of cell 2"
    assert page.run(f"{CARDS}.map((one) => one.className)") == ["", "", "doubtful chosen"]
    assert page.run(f"{CARDS}[0].querySelector('.why').textContent") == ""
    assert page.run(WHAT)[2] == "immature granulocyte 97\u00a0%", "a person has chosen there"
    sleep(1)
    page.run(f"{CARDS}[1].querySelector('.confirm').click()")
    assert asked_name(page) == ("S-1", 2, "neutrophil", 0)
    # A card that is left as it was follows too.
    page.run(f"(({CARDS}[2].querySelector('select')).value = 'immature_granulocyte', 0)")
    page.run(f"{CARDS}[2].querySelector('select').dispatchEvent(new Event('change'))")
    page.until(lambda: page.run(WHAT)[2] == "neutrophil 97\u00a0%")
    assert page.errors() == []


def test_an_earlier_cell_that_became_doubtful_comes_last(page: Page) -> None:
    shown = doubted(view(), (1, 2, 3))
    first, second, third = shown.cells
    page.show(decided(shown, 0, first, replace(second, review=False), third))
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 2)
    page.until(lambda: page.text("review-more") == "")
    page.latest.put(decided(shown, 1, replace(first, review=False), second, third))
    page.until(lambda: page.run(f"{CARDS}.map((one) => one.dataset.number)") == ["1", "3", "2"])
    assert page.run(f"{CARDS}.map((one) => one.className)") == ["", "doubtful", "doubtful"]
    page.latest.put(doubted(view(revisions=2), (1, 2, 3, 4)))
    page.until(lambda: page.run(f"{CARDS}.map((one) => one.dataset.number)") == ["1", "3", "2", "4"])
    page.until(lambda: page.text("review-more") == "")


def test_another_specimen_has_other_cells_to_review(page: Page) -> None:
    page.show(doubted(view()))
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 2)
    # The next answer is late: meanwhile another page begins the next specimen.
    page.run("""(() => {
        window.held = fetch;
        window.fetch = async (...rest) => {
            const answer = await window.held(...rest);
            if (!String(rest[0]).startsWith('/cells')) return answer;
            const content = await answer.json();
            await new Promise((resolve) => (window.letGo = resolve));
            return { ok: true, json: async () => content };
        };
    })()""")
    page.latest.put(doubted(view(), (1, 2, 7)))
    page.until(lambda: page.run("window.letGo !== undefined"))
    page.latest.put(doubted(view(specimen="OTHER"), (1,)))
    page.until(lambda: page.text("specimen") == "OTHER")
    assert not page.visible("review-dialog")
    page.run("window.letGo()")
    page.run("window.fetch = window.held")
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 1)
    assert page.run(f"{CARDS}[0].dataset.number") == "1"


def test_a_barcode_scanned_into_another_dialog_is_not_stolen(page: Page) -> None:
    page.show(doubted(view()))
    page.press("n")
    page.until(lambda: page.visible("dialog"))
    page.run("document.getElementById('review-show').click()")
    assert not page.visible("review-dialog")


def test_a_cell_to_review_is_shown_on_the_map(page: Page) -> None:
    page.show(doubted(mapped(), (1, 2, 3)))
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 3)
    page.run(f"{CARDS}[0].querySelector('.reveal').click()")
    page.until(lambda: page.text("found").startswith("cell 1: platelet"))
    assert page.visible("map-panel")
    assert not page.visible("review-dialog")
    # The third is not on the map yet.
    page.press("c")
    page.until(lambda: page.run(f"{CARDS}.length") == 3)
    page.run(f"{CARDS}[2].querySelector('.reveal').click()")
    assert page.text("found") == "cell 3 is not on the map yet"
    # Who looks for another one meanwhile is not taken back to it.
    number = page.browser.find_element("id", "find-number")
    page.until(number.is_displayed)  # the list over it is being closed
    number.send_keys("57\n")
    assert page.text("found") == "no cell 57 on the map"
    page.run("document.getElementById('review-show').click()")
    page.until(lambda: page.run(f"{CARDS}.length") == 3)
    page.run(f"{CARDS}[2].querySelector('.reveal').click()")
    drawn = mapped()
    assert drawn.map is not None
    third = replace(drawn.map.cells[0], number=3)
    later = replace(drawn.map, cells=(*drawn.map.cells, third))
    facts = {**drawn.state["map"], "version": 4}
    page.latest.put(replace(doubted(mapped(), (1, 2, 3)), map=later, state={**drawn.state, "map": facts}))
    page.until(lambda: page.text("found").startswith("cell 3: platelet"))


def test_where_is_cell_57(page: Page) -> None:
    page.show(mapped())
    page.press("m")
    page.until(lambda: page.run("document.querySelectorAll('#cells button').length") == 2)
    number = page.browser.find_element("id", "find-number")
    number.send_keys("57\n")
    assert page.text("found") == "no cell 57 on the map"
    number.clear()
    for nonsense in ("abc", " ", "1.5"):
        number.send_keys(f"{nonsense}\n")
        assert page.text("found") == "give the number of a cell"
        number.clear()
    number.send_keys("1\n")
    assert page.text("found").startswith("cell 1: platelet")
    assert page.wishes.take_specimen() is None
    assert not page.wishes.paused


def test_another_specimen_has_another_map(page: Page) -> None:
    page.show(mapped())
    page.press("m")
    page.until(lambda: page.run("document.querySelectorAll('#cells button').length") == 2)
    page.latest.put(view(specimen="S-2"))
    page.until(lambda: page.text("specimen") == "S-2")
    assert page.run("document.querySelectorAll('#cells button').length") == 0
    assert not page.visible("map-panel")


def test_the_pause_button_pauses_and_starts(page: Page) -> None:
    page.show(view())
    page.browser.find_element("id", "pause").click()
    page.until(lambda: page.wishes.paused)
    page.latest.put(view(phase="paused"))
    page.until(lambda: page.text("pause-word") == "Continue")
    page.browser.find_element("id", "pause").click()
    page.until(lambda: not page.wishes.paused)


def test_the_space_bar_pauses(page: Page) -> None:
    page.show(view())
    page.press(" ")
    page.until(lambda: page.wishes.paused)
    assert page.errors() == []


def test_a_new_specimen_is_asked_for(page: Page) -> None:
    page.show(view())
    page.press("n")
    page.until(lambda: page.visible("dialog"))
    page.press("S-2 b\n")
    page.until(lambda: not page.visible("dialog"))
    assert page.wishes.take_specimen() == "S-2 b"


@pytest.mark.parametrize("source", ["images", "camera"])
def test_who_begins_a_specimen_is_told_that_files_are_read_again(page: Page, source: str) -> None:
    page.show(view(source=source))
    page.press("n")
    page.until(lambda: page.visible("dialog"))
    assert ("The same images will be counted" in page.text("hint")) == (source == "images")


def test_a_refused_specimen_says_why(page: Page) -> None:
    page.show(view())
    page.browser.find_element("id", "new").click()
    page.press("a/b\n")
    page.until(lambda: "1 to 64 letters" in page.text("refusal"))
    assert page.visible("dialog")
    assert page.wishes.take_specimen() is None


@pytest.mark.parametrize("code", ["N123\n", "AN 7\n", " N1\n"])
def test_a_barcode_scanned_outside_the_dialog_does_nothing(page: Page, code: str) -> None:
    page.show(view())
    page.browser.execute_script("document.getElementById('pause').focus()")
    page.press(code)
    page.browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert not page.visible("dialog")
    assert page.wishes.take_specimen() is None
    assert not page.wishes.paused


@pytest.mark.parametrize("field", ["specimen", "message", "source"])
def test_markup_is_shown_as_text(page: Page, field: str) -> None:
    page.show(view(**{field: EVIL}))
    assert page.text(field) == EVIL
    assert page.run("document.querySelectorAll('main img, .specimen img').length") == 0
    assert page.browser.title == "WBC differential"
    assert page.errors() == []


def test_a_stopped_counter_shows_and_may_come_back(page: Page) -> None:
    page.show(view())
    assert not page.visible("lost")
    port = int(page.server.url.rpartition(":")[2])
    page.server.stop()
    page.until(lambda: page.visible("lost"))
    assert page.text("lost") == "the counter was stopped; these are the last numbers seen"
    assert not page.browser.find_element("id", "pause").is_enabled()
    page.server = PageServer(page.server._app, "127.0.0.1", port)
    page.server._app.state.feed.closing.clear()
    page.server.start()
    page.until(lambda: not page.visible("lost"))
    page.until(page.browser.find_element("id", "pause").is_enabled)


def test_a_lost_connection_shows_and_recovers(page: Page) -> None:
    page.show(view())
    # The next attempt is held up, so that the words can be read.
    page.run("(window.held = fetch, window.fetch = () => new Promise(() => {}), 0)")
    for connection in list(page.server._server.server_state.connections):
        connection.transport.abort()  # type: ignore[union-attr]
    page.until(lambda: page.visible("lost"))
    lost = "connection lost, reconnecting; whether the count goes on is not known; "
    assert page.text("lost") == lost + "these are the last numbers seen"
    page.run("(window.fetch = window.held, 0)")


def test_a_wish_without_an_answer_is_told(page: Page) -> None:
    page.show(view())
    page.run("""(() => {
        const [held, patience] = [window.fetch, AbortSignal.timeout];
        window.fetch = (path, { signal }) => path !== '/pause' ? held(path, { signal }) :
            new Promise((_, fail) => signal?.addEventListener('abort', () => fail(signal.reason)));
        AbortSignal.timeout = (ms) => patience.call(AbortSignal, ms / 100);
    })()""")
    page.browser.find_element("id", "pause").click()
    page.until(lambda: "it is not known whether this was done" in page.text("message"))
    assert not page.wishes.paused


def test_pages_that_nobody_sees_leave_the_connections_to_the_one_that_is_seen(page: Page) -> None:
    browser = page.browser
    page.show(view())
    first = browser.current_window_handle
    page.run(
        "document.getElementById('lost').after(Object.assign(document.createElement('p'), { id: 'words' }))"
    )
    page.run("""new MutationObserver(() => { document.getElementById('words').textContent +=
        document.getElementById('lost').textContent; })
        .observe(document.getElementById('lost'), { childList: true, subtree: true, characterData: true })""")
    for _ in range(6):
        browser.switch_to.new_window("tab")
        page.show(view())
    try:
        browser.find_element("id", "pause").click()
        page.until(lambda: page.wishes.paused)
    finally:
        for other in set(browser.window_handles) - {first}:
            browser.switch_to.window(other)
            browser.close()
        browser.switch_to.window(first)
    page.latest.put(view(total=151))
    page.until(lambda: page.text("total") == "151")
    page.until(browser.find_element("id", "pause").is_enabled)
    assert page.text("words") == ""
    assert not page.run("document.body.classList.contains('stale')")


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("specimen", ["S-1", LONG])
def test_nothing_is_wider_than_the_screen(page: Page, screen: str, specimen: str, tmp_path: Path) -> None:
    page.show(view(specimen=specimen), screen)
    assert page.run("document.documentElement.scrollWidth") == SCREENS[screen][0]
    footer = page.run("document.querySelector('footer').getBoundingClientRect().bottom")
    assert footer == pytest.approx(SCREENS[screen][1], abs=1)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1024, 768)])
def test_a_long_message_pushes_no_button_away(page: Page, width: int, height: int) -> None:
    message = "http://192.168.178.40:5000/api/v2/streams/mjpeg: no answer for 5 s; 6 attempts"
    page.show(replace(mapped(phase="failed", message=message), labels=LABELS))
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.until(lambda: page.run("window.innerWidth") == width)
    hidden = """[...document.querySelectorAll('.controls > :not([hidden])')].filter((one) => {
        const { left, right, top, bottom } = one.getBoundingClientRect();
        const over = document.elementFromPoint(right - 3, (top + bottom) / 2);
        return left < right && (!one.contains(over) || left < 0);
    }).map((one) => one.id || one.className)"""
    assert page.run(hidden) == []
    assert page.run("document.getElementById('notice').clientWidth") > 150
    assert page.run("document.documentElement.scrollHeight") == height


def test_everything_fits_one_screen_at_the_microscope(page: Page) -> None:
    names = "abcdef"
    six = [share(name, 10, 16.7, 10.0, 25.0) for name in names]
    page.show(view(classes=six + STATE["classes"][2:], gated={"out of focus": 12}))
    assert page.run("document.documentElement.scrollHeight") == 800
    assert page.run("((e) => e.scrollHeight - e.clientHeight)(document.querySelector('.count'))") == 0


def lis(state: str | None = None, **changes: Any) -> dict[str, Any]:
    """The state of the link; `state` is that of this specimen's message."""
    known = {
        "id": 3,
        "version": 1,
        "total": 150,
        "namings": 0,
        "counts": {c["name"]: c["count"] for c in STATE["classes"]},
        "status": "preliminary",
        "reason": "why",
        "changed": "2026-03-01T09:41:00+00:00",
    }
    line = {
        "way": "/dev/ttyUSB0",
        "problem": "",
        "due": "",
        "waiting": 0,
        "since": "",
        "refused": 0,
        "orders": [],
        "wbc": None,
        "release_as": "preliminary",
    }
    return line | {"released": known | {"state": state} if state else None} | changes


def test_without_a_way_to_the_lis_nothing_is_shown_of_it(page: Page) -> None:
    page.show(view())
    assert not page.visible("lis")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lis(), "not released"),
        (lis("received"), "preliminary result why at"),
        (lis("waiting", problem="no answer"), "preliminary result has not arrived: no answer"),
        (lis("refused"), "preliminary result: refused, why"),
        (lis("cancelled"), "preliminary result: why"),
    ],
)
def test_the_page_tells_whether_the_result_has_arrived(page: Page, state: dict[str, Any], words: str) -> None:
    page.show(view(lis=state))
    assert page.text("sent").startswith(words)
    assert page.text("way") == "/dev/ttyUSB0"


def recounted(**changes: int) -> list[dict[str, Any]]:
    """The classes of the state, some with so many cells more."""
    return [c | {"count": c["count"] + changes.get(c["name"], 0)} for c in STATE["classes"]]


GONE_ON = "; 150 cells then, counted on since"
OTHERWISE = "; seen again, cells got other classes since"


@pytest.mark.parametrize(
    ("total", "more", "said"),
    [
        (150, {}, ""),
        (151, {"neutrophil": 1}, GONE_ON),
        (150, {"platelet": 1}, GONE_ON),
        (150, {"neutrophil": 1, "immature_granulocyte": -1}, OTHERWISE),
        (149, {"neutrophil": -1, "erythroblast": 1}, OTHERWISE),
    ],
)
def test_what_became_of_the_count_after_its_release_is_told(
    page: Page, total: int, more: dict[str, int], said: str
) -> None:
    page.show(view(lis=lis("received"), total=total, classes=recounted(**more)))
    assert re.fullmatch(r".* at \d\d:\d\d(.*)", page.text("sent"))[1] == said


@pytest.mark.parametrize(("total", "said"), [(150, ""), (151, GONE_ON)])
def test_of_an_early_result_the_total_tells(page: Page, total: int, said: str) -> None:
    released = lis("received")["released"] | {"counts": None}
    page.show(view(lis=lis(released=released), total=total))
    assert re.fullmatch(r".* at \d\d:\d\d(.*)", page.text("sent"))[1] == said


def test_cells_that_were_named_after_the_release_are_told(page: Page) -> None:
    page.show(view(lis=lis("received"), namings=1))
    assert page.text("sent").endswith("; cells were named since")


def test_what_waits_is_told(page: Page) -> None:
    since = "2026-03-01T08:00:00+00:00"
    page.show(view(lis=lis("waiting", waiting=3, since=since, refused=1, due="2026-03-01T09:42:07+00:00")))
    assert page.text("waits").startswith("3 waiting since ")
    assert "1 refused: see the outbox; next attempt at " in page.text("waits")


@pytest.mark.parametrize(
    ("phase", "total", "may"),
    [("counting", 9, False), ("paused", 9, True), ("finished", 9, True), ("paused", 0, False)],
)
def test_a_result_is_released_when_the_count_rests(page: Page, phase: str, total: int, may: bool) -> None:
    page.show(view(lis=lis(), phase=phase, total=total))
    page.until(lambda: page.browser.find_element("id", "release").is_enabled() is may)


def test_a_release_is_sent_with_who_and_how_many(page: Page) -> None:
    page.show(view(lis=lis(), phase="paused"))
    page.until(lambda: page.browser.find_element("id", "release").is_enabled())
    page.press("r")
    page.until(lambda: page.visible("release-dialog"))
    why = "fewer than the 200 cells of a final result; 4 to review"
    assert page.text("release-what") == f"150 cells counted; {why}: it goes out as preliminary."
    page.browser.find_element("id", "operator").send_keys("Dr A")
    for nonsense in ("x", "0x10", "1e999"):
        page.run("document.getElementById('release-refusal').textContent = ''")
        page.browser.find_element("id", "wbc").send_keys(nonsense)
        page.browser.find_element("css selector", "#release-form [type=submit]").click()
        page.until(lambda: "must be a number" in page.text("release-refusal"))
        page.browser.find_element("id", "wbc").clear()
    page.browser.find_element("id", "wbc").send_keys("7,2")
    page.browser.find_element("css selector", "#release-form [type=submit]").click()
    asked: list[Any] = []
    page.until(lambda: asked or asked.append(page.wishes.take_release()) or asked[0] or asked.clear())
    assert (asked[0].specimen, asked[0].operator, asked[0].wbc) == ("S-1", "Dr A", 7.2)
    assert asked[0].counts == {c["name"]: c["count"] for c in STATE["classes"]}
    assert (asked[0].review, asked[0].status) == (STATE["review"], "preliminary")
    asked[0].answer.set_exception(UserError("the disk is full"))
    page.until(lambda: page.text("release-refusal") == "the disk is full")
    page.browser.find_element("id", "release-cancel").click()
    assert not page.visible("release-dialog")
    page.errors()  # the refusals are logged by the browser


def test_an_enter_that_is_held_opens_the_release_and_sends_none(page: Page) -> None:
    page.show(view(lis=lis(), phase="paused"))
    page.until(lambda: page.browser.find_element("id", "release").is_enabled())
    page.run("document.getElementById('release').focus()")
    page.enter("keyDown")
    page.until(lambda: page.run("document.activeElement.id") == "operator")
    sleep(0.3)
    page.enter("keyDown", repeat=True)
    page.enter("keyUp")
    sleep(0.3)
    assert page.wishes.take_release() is None


@pytest.mark.parametrize("screen", SCREENS)
def test_a_long_specimen_is_read_whole_before_its_release(page: Page, screen: str) -> None:
    page.show(view(specimen=LONG, lis=lis(), phase="paused"), screen)
    page.until(lambda: page.browser.find_element("id", "release").is_enabled())
    page.press("r")
    page.until(lambda: page.visible("release-dialog"))
    page.run("document.getElementById('release-refusal').textContent = arguments[0]", LONG)
    assert page.run("((e) => e.scrollWidth - e.clientWidth)(document.getElementById('release-dialog'))") == 0


def test_a_specimen_that_nobody_here_asked_for_is_told_until_somebody_acts(page: Page) -> None:
    page.show(view(message=""))
    assert not page.visible("message")
    page.latest.put(view(specimen="20261129-231741-10440", message=""))
    words = "another specimen is counted now, 20261129-231741-10440; New specimen with S-1 goes on with that"
    page.until(lambda: page.text("message") == words)
    page.latest.put(view(specimen="20261129-231741-10440", message="stage lost", total=151))
    page.until(lambda: page.text("total") == "151")
    assert page.text("message") == f"stage lost · {words}"
    page.latest.put(view(specimen="20261129-231741-10440", message=""))
    page.press("\ue004")
    assert page.run("document.activeElement.id") == "dismiss"
    sleep(0.3)
    page.press("\ue007")
    page.until(lambda: not page.visible("message"))
    page.latest.put(view(specimen="20261129-231741-10440", message="stage lost"))
    page.until(lambda: page.visible("message"))
    assert not page.visible("dismiss"), "that is told as long as it is so"


def test_a_correction_keeps_the_leukocyte_count_and_shows_what_it_replaces(page: Page) -> None:
    before = lis("received", release_as="corrected", wbc=7.2)
    page.show(view(lis=before, phase="paused", unsettled=[]))
    page.until(lambda: page.browser.find_element("id", "release").is_enabled())
    page.press("r")
    page.until(lambda: page.visible("release-dialog"))
    assert page.browser.find_element("id", "wbc").get_property("value") == "7.2"
    replaces = "it goes out as corrected, in place of the final result."
    assert page.text("release-what") == f"150 cells counted: {replaces}"


def test_what_has_changed_since_the_dialog_opened_is_shown_before_it_is_signed(page: Page) -> None:
    page.show(view(lis=lis(), phase="paused"))
    page.until(lambda: page.browser.find_element("id", "release").is_enabled())
    page.press("r")
    page.until(lambda: page.visible("release-dialog"))
    page.latest.put(view(lis=lis(), phase="paused", total=160, unsettled=[]))
    page.until(lambda: page.text("total") == "160")
    assert page.text("release-what").startswith("150 cells")
    page.browser.find_element("css selector", "#release-form [type=submit]").click()
    asked: list[Any] = []
    page.until(lambda: asked or asked.append(page.wishes.take_release()) or asked[0] or asked.clear())
    asked[0].answer.set_exception(UserError("the count has changed meanwhile; look at it, then release"))
    page.until(lambda: page.text("release-what").startswith("160 cells"))
    assert page.text("release-refusal").startswith("the count has changed")
    page.errors()  # the refusal is logged by the browser


def test_a_barcode_scanned_into_a_release_does_not_send_it(page: Page) -> None:
    page.show(view(lis=lis(), phase="paused"))
    page.until(lambda: page.browser.find_element("id", "release").is_enabled())
    page.press("r")
    page.until(lambda: page.visible("release-dialog"))
    page.press("PAT-999\n")
    assert page.run("document.activeElement.id") == "wbc"
    page.press("7\n")
    page.browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert page.wishes.take_release() is None
    assert page.visible("release-dialog")
    page.press("\n")  # a person's own
    asked: list[Any] = []
    page.until(lambda: asked or asked.append(page.wishes.take_release()) or asked[0] or asked.clear())
    assert (asked[0].operator, asked[0].wbc) == ("PAT-999", 7)
    asked[0].answer.set_result(SimpleNamespace(id=1))
    page.until(lambda: not page.visible("release-dialog"))


def test_orders_are_offered_for_the_next_specimen(page: Page) -> None:
    page.show(view(lis=lis(orders=["S-7", EVIL])))
    offered = page.run("[...document.getElementById('orders').options].map((o) => o.value)")
    assert offered == ["S-7", EVIL]
    assert page.run("document.title") == "WBC differential"


def test_a_message_is_cancelled_with_a_reason_and_sent_again(page: Page) -> None:
    page.show(view(lis=lis("waiting", waiting=1, since="2026-03-01T08:00:00+00:00")))
    page.browser.find_element("id", "outbox").click()
    page.until(lambda: page.visible("outbox-dialog"))
    message = "document.querySelector('#messages li').innerText"
    assert "1 · S-1 · final" in page.run(message)
    page.browser.find_element("css selector", "#messages .withdraw").click()
    page.until(lambda: "needs a reason" in page.text("outbox-refusal"))
    page.browser.find_element("id", "reason").send_keys("wrong slide")
    page.browser.find_element("css selector", "#messages .withdraw").click()
    page.until(lambda: "cancelled: wrong slide" in page.run(message))
    page.browser.find_element("css selector", "#messages .resend").click()
    page.until(lambda: "waiting" in page.run(message))
    page.browser.find_element("id", "outbox-close").click()
    assert not page.visible("outbox-dialog")
    page.errors()  # the refusal is logged by the browser


def test_a_message_that_was_received_is_sent_again_on_a_second_word_alone(page: Page, tmp_path: Path) -> None:
    database = tmp_path / "c.sqlite"
    release(database, "S-1")
    with Outbox(database) as box:
        box.attempted(1, "received", state=State.RECEIVED)
        server = PageServer(
            build_app(page.latest, page.wishes, threading.Event(), None, database), "127.0.0.1", 0
        )
        server.start()
        other = Page(page.browser, server, page.latest, page.wishes)
        other.show(view(lis=lis("received")))
        other.browser.find_element("id", "outbox").click()
        other.until(lambda: other.visible("outbox-dialog"))
        assert other.run("document.activeElement.id") == "outbox-close"
        other.browser.find_element("css selector", "#messages .resend").click()
        other.until(lambda: other.text("outbox-refusal") == "The LIS has message 1 already.")
        assert box.entry(1).state is State.RECEIVED
        other.browser.find_element("id", "outbox-again").click()
        other.until(lambda: box.entry(1).state is State.WAITING)
        other.until(lambda: not other.visible("outbox-again"))
        assert other.text("outbox-refusal") == ""
    other.browser.get("about:blank")
    server.stop()
