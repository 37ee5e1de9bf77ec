"""The page in a real browser: what is drawn, what is asked for, light, dark, phone and print."""

import gzip
import http.server
import re
import shutil
import threading
from functools import cache, partial
from pathlib import Path

import msgspec
import pytest

from advisor.engine.record import Conclusions
from advisor.questions import RUN, read_run
from advisor.report.figures import draw_figure, prepare
from advisor.report.page import DARK, LIGHT, render_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
RACE = Path(__file__).parents[1] / "recordings" / "races" / "digits_adamw.json.gz"
HOSTILE = "<script>alert(1)</script>"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 700}
#: How they look at the page.
READERS = {
    "wide": {"viewport": WIDE},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True},
}
#: Points of each line as plotly drew them, and those of its error bars.
COUNT_DRAWN = """() => [...document.querySelectorAll(".chart")].map((chart) => ({
    lines: chart.data.map((line) => line.y.length),
    points: chart.querySelectorAll(".points path.point").length,
    bars: chart.querySelectorAll(".errorbar").length,
}))"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page in"),
]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A recorded run with a winner, of a model with a hostile name."""
    path = tmp_path_factory.mktemp("run") / "run.json"
    path.write_bytes(gzip.decompress(RACE.read_bytes()))
    record = read_run(path)
    facts = msgspec.structs.replace(record.workload, model_name=HOSTILE)
    return Conclusions(msgspec.structs.replace(record, workload=facts))


@pytest.fixture(scope="module")
def address(run, tmp_path_factory):
    """Where a server hands out the page, so that requests beside it would be seen."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(render_page(RUN, run), encoding="utf-8")
    handler = partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/page.html"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def open_page(browser, address):
    """A function: the page as one of the readers has it, opened once; what it says and asks for."""
    contexts, complaints, requests = [], [], []

    @cache
    def open_for(reader):
        context = browser.new_context(**READERS[reader])
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        return page

    yield open_for, complaints, requests
    for context in contexts:
        context.close()


@pytest.fixture
def visit(open_page, address):
    """Open the page; in the end no request but its own was made and nothing was complained of."""
    open_for, complaints, requests = open_page
    yield open_for
    assert complaints == []
    assert {url for url in requests if not url.startswith(("data:", "blob:"))} == {address}


def list_figures(run):
    told = [question.tell(run) for question in RUN.told if question.tell is not None]
    charts = [prepare(chart) for part in told for chart in part.charts]
    return [draw_figure(chart) for chart in charts if chart is not None]


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def paper(page):
    return page.evaluate("document.querySelector('.chart')._fullLayout.paper_bgcolor")


def wait_for_paper(page, colour):
    """Look again and again: the page's own policy forbids the browser's way to wait, by eval."""
    for _ in range(100):
        if paper(page) == colour:
            return
        page.wait_for_timeout(50)
    assert paper(page) == colour


def as_rgb(colour):
    return f"rgb({', '.join(str(int(colour[n : n + 2], 16)) for n in (1, 3, 5))})"


def test_every_point_and_interval_is_drawn(run, visit):
    drawn, figures = visit("wide").evaluate(COUNT_DRAWN), list_figures(run)
    assert len(drawn) == len(figures) == 8
    for chart, figure in zip(drawn, figures, strict=True):
        lines = figure["data"]
        assert chart["lines"] == [len(line["y"]) for line in lines]
        marked = [line for line in lines if "markers" in line.get("mode", "")]
        assert chart["points"] == sum(len(line["y"]) for line in marked)
        with_bars = [line for line in lines if line.get("error_y")]
        assert chart["bars"] == sum(len(line["y"]) for line in with_bars)


def test_a_hostile_name_is_text(visit):
    page = visit("wide")
    page.locator("summary", has_text="Where this comes from").click()
    assert page.locator("dd", has_text=HOSTILE).count() == 1


def test_a_point_tells_its_value_under_the_pointer(visit):
    page = visit("wide")
    page.locator(".chart").nth(2).scroll_into_view_if_needed()
    box = page.locator(".chart").nth(2).locator(".points path.point").nth(5).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    told = page.locator(".hovertext").first
    told.wait_for()
    assert re.search(r"seconds in your loop: [\d.]+loss: [\d.]+ \(", told.text_content())


def test_keys_and_buttons_zoom_and_show_all(visit):
    page = visit("wide")
    chart = page.locator(".chart").first
    span = "(c) => c.layout.xaxis.range[1] - c.layout.xaxis.range[0]"
    whole = chart.evaluate(span)
    chart.focus()
    page.keyboard.press("+")
    assert chart.evaluate(span) == pytest.approx(whole / 2)
    page.keyboard.press("0")
    assert chart.evaluate(span) == pytest.approx(whole)
    page.keyboard.press("Tab")  # to the first of its buttons
    page.keyboard.press("Enter")
    assert chart.evaluate(span) == pytest.approx(whole / 2)
    page.locator("figure").first.get_by_role("button", name="Reset").click()
    assert chart.evaluate(span) == pytest.approx(whole)


@pytest.mark.parametrize(("name", "begins"), [("PNG", b"\x89PNG"), ("SVG", b"<svg")])
def test_a_chart_is_downloaded(visit, tmp_path, name, begins):
    page = visit("wide")
    with page.expect_download() as started:
        page.locator("figure").first.get_by_role("button", name=name).click()
    assert started.value.suggested_filename == f"Speed against batch.{name.lower()}"
    started.value.save_as(tmp_path / "chart")
    content = (tmp_path / "chart").read_bytes()
    assert content.startswith(begins)
    assert len(content) > 5_000


def test_light_and_dark_follow_the_reader(visit):
    page = visit("dark")
    page.emulate_media(media="screen", color_scheme="dark")
    wait_for_paper(page, DARK.paper)
    assert background(page) == as_rgb(DARK.paper)
    page.emulate_media(color_scheme="light")
    wait_for_paper(page, LIGHT.paper)
    assert background(page) == as_rgb(LIGHT.paper)


def test_a_phone_shows_the_page_without_scrolling_sideways(visit):
    page = visit("phone")
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.evaluate("document.querySelector('.chart').layout.dragmode") is False


def test_print_is_on_white_without_controls(visit, tmp_path):
    page = visit("dark")
    page.emulate_media(media="screen", color_scheme="dark")
    wait_for_paper(page, DARK.paper)
    page.emulate_media(media="print", color_scheme="dark")
    wait_for_paper(page, LIGHT.paper)
    assert background(page) == as_rgb(LIGHT.paper)
    assert not page.locator(".controls").first.is_visible()
    assert page.evaluate("document.querySelector('.chart')._fullLayout.width") < 700


def test_each_chart_has_alternative_text_and_its_values(visit):
    page = visit("wide")
    for figure in page.locator("figure").all():
        label = figure.locator(".chart").get_attribute("aria-label")
        assert figure.locator("h2").text_content() in label
        assert figure.locator("figcaption").text_content() in label
        figure.locator("summary").click()
        values = figure.locator(".chart").evaluate(
            "(c) => c.data.reduce((n, l) => n + l.y.length, 0)"
        )
        assert figure.locator("tbody tr").count() == values
