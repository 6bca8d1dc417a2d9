"""The pages of a sweep and of a run in a real browser."""

import numpy as np
import pytest
from PIL import Image

from soft.studies.run_report import write_run_page
from soft.studies.single_run import read_single_run
from soft.studies.sweep_report import write_report
from tests.browser import BROWSER, needs_browser, outside
from tests.marks import slow
from tests.studies.runs import write_evaluation, write_maps, write_single_run
from tests.studies.sweeps import CONFIG, grid_sweep, newton_sweep

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Open report.html of a folder; in the end it has said nothing and asked for nothing outside of itself."""
    messages, requests = [], []

    def open_page(folder, width: int, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(150_000)  # milliseconds, for a busy machine
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((folder / "report.html").as_uri())
        page.wait_for_selector(".plotly-graph-div .main-svg")
        return page

    yield open_page
    assert messages == []
    assert outside(requests) == []


def test_page_draws_its_plots_without_a_network(tmp_path, open_page):
    write_report(newton_sweep(tmp_path / "sweep"), tmp_path / "out")
    page = open_page(tmp_path / "out", width=1200)
    tables = page.locator("table")
    assert [tables.nth(number).locator("tbody tr").count() for number in range(tables.count())] == [4, 1]
    plots = page.locator(".plotly-graph-div")
    assert plots.count() == 3
    for number in range(3):
        plots.nth(number).screenshot(path=tmp_path / f"{number}.png")
        pixels = np.asarray(Image.open(tmp_path / f"{number}.png").convert("RGB")).astype(int)
        assert pixels.shape[0] > 400
        blue = (np.abs(pixels - (0x00, 0x72, 0xB2)).max(-1) < 12).sum()  # of the first series
        assert blue > 50, number
    # Figures answer to the mouse.
    points = plots.nth(0).locator(".scatterlayer .point")
    assert points.count() == 3
    plots.nth(0).scroll_into_view_if_needed()
    box = points.nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".hoverlayer .hovertext")
    assert "80.5" in page.locator(".hovertext").first.text_content()


@pytest.mark.parametrize("width", [slow(1280), 390])
def test_a_judged_study_fits_a_desktop_and_a_phone(tmp_path, open_page, width):
    gate = {"ceiling_min": 99.9, "floor_max": 30}
    study = {"reference": {"model.attention.newton_iters": 20}, "gate": gate}
    write_report(grid_sweep(tmp_path / "sweep", **study), tmp_path / "out")
    page = open_page(tmp_path / "out", width)
    (fault,) = page.locator(".fault").all_text_contents()
    assert "answers nothing: its ceiling (softmax)" in fault
    headings = page.locator("h2").all_text_contents()
    assert headings == ["Differences to iterations T 20, paired by seed", "Top-1 (%) over landmarks m and iterations T"]
    heat_map = page.locator(".plotly-graph-div").nth(0)
    assert heat_map.locator(".heatmap-label").count() == 6
    assert "85.5" in "".join(heat_map.locator(".heatmap-label").all_text_contents())
    # Wide tables scroll by themselves; the page does not.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lines = page.locator(".plotly-graph-div").nth(1)
    plot, legend = (lines.locator(part).first.bounding_box() for part in (".nsewdrag", ".legend"))
    assert plot["width"] > width / 2
    assert (legend["y"] > plot["y"] + plot["height"]) == (width == 390)


@pytest.fixture
def run_page(tmp_path):
    """Return the folder of a run's page, with an evaluation and attention maps."""
    run = write_single_run(tmp_path / "run", name="a_name_that_is_long_and_has_no_place_to_break_anywhere_on_a_phone")
    best = run / "checkpoints" / "best.ckpt"
    write_evaluation(run / "evaluation", best)
    write_maps(run / "attention_maps", best)
    write_run_page(read_single_run(run), tmp_path / "out", CONFIG, "python src/train.py schedule.epochs=3")
    return tmp_path / "out"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_a_run_fits_a_desktop_and_a_phone(run_page, open_page, width):
    page = open_page(run_page, width)
    headings = page.locator("h2").all_text_contents()
    assert headings == ["Curves", "Attention", "Evaluation", "Attention maps", "Training", "Settings"]
    page.locator("summary").first.click()  # all settings, whose lines may be long
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    plots = page.locator(".plotly-graph-div")
    boxes = [plots.nth(number).bounding_box() for number in range(plots.count())]
    assert len(boxes) == 8
    assert len(page.locator(".heatmap-label").all()) == 3
    # Curves stand side by side where there is room, and no plot reaches into its neighbour.
    loss, top1 = boxes[:2]
    assert (loss["y"] == top1["y"]) == (width == 1280)
    for number in (0, 1):
        svg = plots.nth(number).locator(".main-svg").first.bounding_box()
        assert svg["width"] <= boxes[number]["width"] + 1
    assert width == 390 or loss["x"] + loss["width"] <= top1["x"]


@pytest.mark.slow
def test_a_page_follows_the_light_of_the_screen(run_page, open_page):
    colours = {}
    for scheme in ("light", "dark"):
        page = open_page(run_page, 1280, scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        text = page.evaluate("getComputedStyle(document.body).color")
        axis = page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
        colours[scheme] = [sum(map(int, colour[4:-1].split(",")[:3])) / 3 for colour in (ground, text, axis)]
    ground, *texts = colours["light"]
    assert all(ground - text > 120 for text in texts)
    ground, *texts = colours["dark"]
    assert all(text - ground > 120 for text in texts)
    page.emulate_media(color_scheme="light")  # while the page is open
    page.wait_for_function("getComputedStyle(document.querySelector('.xtick text')).fill == 'rgb(42, 63, 95)'")
