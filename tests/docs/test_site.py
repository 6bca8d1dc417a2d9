"""The documentation builds without a warning, and its pages need no network."""

import logging
import re
from html.parser import HTMLParser

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from tests.browser import needs_browser, open_file, outside
from tests.docs.pages import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the built site; links and anchors that lead nowhere end the build."""
    folder = tmp_path_factory.mktemp("site")
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    assert warnings == []
    return folder


class _Sources(HTMLParser):
    """Parser that collects what a page loads by itself."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video"):
            self.found.append(attributes.get("src") or "")
        if tag == "link" and attributes.get("rel") != "canonical":
            self.found.append(attributes.get("href") or "")


def test_pages_load_only_files_of_the_site(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        parser = _Sources()
        parser.feed(page.read_text(encoding="utf-8"))
        for source in filter(None, parser.found):
            assert not re.match(r"(https?:)?//", source), (page, source)
            target = (page.parent / source.partition("?")[0].partition("#")[0]).resolve()
            # Links of 404.html begin at the root, because it may be shown for any address.
            assert page.name == "404.html" or target.is_file(), (page, source)


def test_styles_ask_for_nothing_outside(site):
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["index.html", "first_ablation.html"])
def test_a_page_in_a_browser(site, name, width):
    with open_file(site / name, width) as (page, messages, requests):
        page.wait_for_load_state("networkidle")
        assert page.locator("h1").count() == 1
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert messages == []
    assert outside(requests) == []


@needs_browser
def test_the_search_works_in_files(site):
    with open_file(site / "index.html", 1280) as (page, messages, requests):
        page.locator(".md-search__input").click()
        page.locator(".md-search__input").type("landmark_gain")
        page.wait_for_selector(".md-search-result__item")
        assert page.locator(".md-search-result__item").count() > 0
    assert messages == []
    assert outside(requests) == []
