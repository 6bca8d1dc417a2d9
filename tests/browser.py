"""A Chromium for tests that look at pages, where the machine has one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@contextmanager
def open_file(path: Path, width: int) -> Iterator[tuple[object, list[str], list[str]]]:
    """Open a file in a window of this width; yield the page, its messages, and its requests outside of files."""
    from playwright.sync_api import sync_playwright

    messages: list[str] = []
    requests: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(150_000)  # milliseconds, for a busy machine
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        yield page, messages, requests
        browser.close()


def outside(requests: list[str]) -> list[str]:
    """Return the requests that are no files of the page's own."""
    return [url for url in requests if not url.startswith(("file:", "data:", "blob:", "about:"))]
