"""A headless Chromium for the tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync disable-dev-shm-usage"
)


@contextmanager
def headless_chromium(profile: Path, width: int, height: int) -> Iterator[Any]:
    """A browser for as long as the block runs; skips the test where none is installed.

    Args:
        profile: folder for what it keeps.
        width, height: of the window in pixels.
    """
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver on this machine: install both to run the browser tests")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS.split(), f"window-size={width},{height}", f"user-data-dir={profile}"]:
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    browser.set_script_timeout(120)
    yield browser
    browser.quit()


def wait_for(browser: Any, condition: Callable[[Any], object]) -> Any:
    """What a condition of the browser is once it holds, within a minute."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60).until(condition)
