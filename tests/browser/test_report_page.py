"""The report in a real browser: nothing is fetched, nothing overflows, it reads in the dark."""

import importlib.util
from pathlib import Path

import pytest

from fedvol.report import write_report

CHROMIUM = Path("/usr/bin/chromium")
EXAMPLE = Path(__file__).parent.parent / "unit" / "report" / "conftest.py"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is absent"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("report_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    plan = example.make_plan()
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path,
        result=example.make_result(example.make_document(plan)),
        plan_json=plan.model_dump_json(),
        pictures=example.make_pictures(),
    )
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield opened
        opened.close()


@pytest.fixture(params=[(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")])
def page(request, browser, address):
    width, scheme = request.param
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.fetched, opened.said = [], []
    opened.on("request", lambda item: opened.fetched.append(item.url))
    opened.on("console", lambda item: opened.said.append(item.text))
    opened.goto(address)
    yield opened
    opened.close()


def test_nothing_is_fetched_and_the_policy_is_kept(page, address):
    others = [url for url in page.fetched if url != address and not url.startswith("data:")]
    assert others == []
    assert page.said == []


def test_the_page_never_scrolls_sideways(page):
    for summary in page.locator("summary").all():
        summary.click()
    wide, seen = page.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= seen


def test_pictures_are_shown(page):
    sizes = page.evaluate("() => [...document.images].map(i => [i.complete, i.naturalWidth])")
    assert sizes == [[True, 480]] * 3


def test_details_open_by_keyboard(page):
    first = page.locator("details").first
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert first.get_attribute("open") is not None


def test_text_stands_out_from_its_ground(page):
    ratio = page.evaluate(
        """() => {
          const rgb = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
          const light = c => rgb(c).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const ground = light(getComputedStyle(document.body).backgroundColor);
          const seen = [...document.querySelectorAll('p, td span, th, dt, dd, figcaption, a')]
            .filter(e => !e.closest('.banner'))
            .map(e => light(getComputedStyle(e).color))
            .map(l => (Math.max(l, ground) + 0.05) / (Math.min(l, ground) + 0.05));
          return Math.min(...seen);
        }"""
    )
    assert ratio >= 4.5


def test_printing_works(browser, address):
    page = browser.new_page()
    page.goto(address)
    assert page.pdf().startswith(b"%PDF")
    page.close()
