"""The page of `clipself demo` in a real browser: upload, type, point, tabs, mistakes in words; no other host asked."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipself.data.photographs import load_photo
from clipself.workflows.live.views import GROUPS

MISSING = [name for name in ("gradio", "selenium") if find_spec(name) is None]
MISSING += [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", 
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,1000",
)  # fmt: skip
PATIENCE = 120.0
"""Seconds; a busy machine needs some of them."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page, served by the command itself."""
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
    told = folder / "log.txt"
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "uploads")}
    with told.open("w") as log:
        words = [sys.executable, "-m", "clipself", "demo", "--port", str(port), "--device", "cpu"]
        server = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, env=environment)
        try:
            wait_for(lambda: "the page is at" in told.read_text() or server.poll() is not None)
            assert server.poll() is None, told.read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        driver.set_page_load_timeout(PATIENCE)
        yield driver
    finally:
        driver.quit()


def wait_for(ready: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := ready()):
        assert time.monotonic() < end, "the page does not get there"
        time.sleep(0.1)
    return found


class Page:
    """What a person does on it."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        browser.get(address)
        wait_for(lambda: self.said())

    def find(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", selector))

    def text(self, selector: str) -> str:
        """The text of the one element, read at once: between two requests the page may replace it."""
        found = self.browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return str(found).strip()

    def said(self) -> str:
        return self.text("#said .fine, #said .fault")

    def open_tab(self, name: str) -> str:
        before = self.said()
        (button,) = [one for one in self.find("button[role=tab]") if one.text == name]
        button.click()
        return str(wait_for(lambda: self.said() != before and self.said()))

    def type_names(self, text: str) -> None:
        (box,) = self.find("#names textarea")
        self.browser.execute_script("arguments[0].select()", box)
        box.send_keys(text or "\ue003")  # the key that deletes

    def upload(self, file: Path) -> None:
        for clear in self.find("#picture button[aria-label='Clear'], #picture button[title='Clear']"):
            clear.click()
        wait_for(lambda: self.find("#picture input[type=file]"))[0].send_keys(str(file))

    def shown(self, selector: str) -> tuple[int, int]:
        """Width and height of the picture in a place, once the browser has decoded it."""
        asked = (
            "const one = document.querySelector(arguments[0]);"
            "return one && one.complete && one.naturalWidth ? [one.naturalWidth, one.naturalHeight] : null"
        )
        width, height = wait_for(lambda: self.browser.execute_script(asked, selector))
        return width, height

    def hosts(self) -> set[str]:
        """Everything that the page has loaded over the network, by host."""
        events = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        urls = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
        return {url.split("/")[2].split(":")[0] for url in urls if re.match("(http|ws)s?:", url)}


def test_a_person_uploads_types_and_looks(browser: Any, address: str, tmp_path: Path) -> None:
    picture = tmp_path / "mine.png"
    load_photo("coffee").resize((192, 128)).save(picture)
    page = Page(browser, address)
    assert "s" in page.said()

    page.upload(picture)
    wait_for(lambda: page.browser.execute_script("return document.querySelector('#alike canvas')?.width") == 192)
    page.type_names("cup, spoon")
    page.open_tab("Detection")
    page.shown("#detection img")
    page.type_names("cup")
    wait_for(lambda: "spoon" not in page.said() and ("cup" in page.said() or "nothing found" in page.said()))
    assert page.shown("#detection img") == (192, 128)

    for tab, place in (("Segmentation", "#segmentation"), ("Panoptic", "#panoptic"), ("K-means", "#k-means")):
        said = page.open_tab(tab)
        assert re.search(r"· \d+\.\d\d s$", said), said
        assert page.shown(f"{place} img")[0] >= 192
    assert page.open_tab("Raw | refined").startswith("ordinary attention | values alone")
    wait_for(lambda: len(page.find("#sides img")) >= 2)
    assert page.browser.execute_script("return document.querySelector('#compared input').value") == GROUPS
    assert page.hosts() == {"127.0.0.1"}


def test_patches_are_asked_by_pointing(browser: Any, address: str) -> None:
    from selenium.webdriver import ActionChains

    page = Page(browser, address)
    (canvas,) = wait_for(lambda: page.find("#alike canvas[data-patch]"))
    pixels = "return arguments[0].toDataURL()"
    seen = {}
    for across, down in ((-100, -80), (110, 60)):
        ActionChains(browser).move_to_element_with_offset(canvas, across, down).perform()
        seen[canvas.get_attribute("data-patch")] = browser.execute_script(pixels, canvas)
    assert len(set(seen.values())) == 2
    (one, other) = (tuple(map(int, patch.split(","))) for patch in seen)
    assert one[0] < other[0]
    assert one[1] < other[1]


def test_mistakes_are_told_and_mended(browser: Any, address: str, tmp_path: Path) -> None:
    broken, whole = tmp_path / "broken.png", tmp_path / "whole.png"
    Image.new("RGB", (96, 64), "red").save(whole)
    broken.write_bytes(whole.read_bytes()[:60])
    page = Page(browser, address)
    page.open_tab("Detection")
    page.upload(broken)
    assert re.search(r"broken\.png is (damaged or cut short|not an image)", wait_for(lambda: page.text("#said .fault")))
    page.upload(whole)
    wait_for(lambda: not page.text("#said .fault"))
    page.type_names("")
    (box,) = page.find("#stuff textarea")
    browser.execute_script("arguments[0].select()", box)
    box.send_keys("\ue003")
    assert "type at least one" in wait_for(lambda: page.text("#said .fault"))
    page.type_names("cat, cat")
    wait_for(lambda: "'cat' more than once" in page.text("#said .fault"))
    page.type_names("cat")
    wait_for(lambda: page.said() and not page.text("#said .fault"))
