"""The page in a real browser."""

import shutil

import numpy as np
import pytest
from PIL import Image

from soft.studies.report import write_report
from tests.studies.sweeps import newton_sweep

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_page_draws_its_plots_without_a_network(tmp_path):
    from playwright.sync_api import sync_playwright

    write_report(newton_sweep(tmp_path / "sweep"), tmp_path / "out")
    page_file = (tmp_path / "out" / "report.html").as_uri()
    messages, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(150_000)  # milliseconds, for a busy machine
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_file)
        page.wait_for_selector(".plotly-graph-div .main-svg")
        assert page.locator("tbody tr").count() == 4
        plots = page.locator(".plotly-graph-div")
        assert plots.count() == 3
        for number in range(3):
            plots.nth(number).screenshot(path=tmp_path / f"{number}.png")
        # Figures answer to the mouse.
        points = plots.nth(0).locator(".scatterlayer .point")
        assert points.count() == 3
        plots.nth(0).scroll_into_view_if_needed()
        box = points.nth(1).bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector(".hoverlayer .hovertext")
        assert "80.5" in page.locator(".hovertext").first.text_content()
        browser.close()
    assert messages == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    for number in range(3):
        pixels = np.asarray(Image.open(tmp_path / f"{number}.png").convert("RGB")).astype(int)
        assert pixels.shape[0] > 400
        blue = (np.abs(pixels - (0x00, 0x72, 0xB2)).max(-1) < 12).sum()  # of the first series
        assert blue > 50, number
