"""The page in a real browser: it runs nothing, loads nothing, and is there for everybody."""

import pytest
from reports import full, hostile, layer, report
from web_tools import browser, from_npm

from gradverify.report import FORMATS, Page

BOX = "e => { const b = e.getBoundingClientRect(); return [b.width, b.height] }"


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = browser()
    with playwright.sync_playwright() as started:
        # Root, which CI is, may only start it without its sandbox; what is opened is our own.
        running = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, made in {
        "full": full(), "hostile": hostile(), "ok": report(layer(), folder="", root="")
    }.items():  # fmt: skip
        text = FORMATS["html"](made, Page(folder="/home/me/project"))
        (folder / f"{name}.html").write_text(text, "utf-8")
    return folder


@pytest.fixture
def opened(chromium, pages):
    """Return a function that opens a page, and sees to it that nothing happened in the end."""
    heard, contexts = [], []

    def opens(name, width=1200, **context):
        made = chromium.new_context(viewport={"width": width, "height": 900}, **context)
        contexts.append(made)
        page = made.new_page()
        address = (pages / f"{name}.html").as_uri()
        page.on("console", lambda m: heard.append(m.text))
        page.on("pageerror", lambda e: heard.append(str(e)))
        page.on("dialog", lambda d: heard.append(d.message))
        page.on("request", lambda r: heard.extend([r.url] * (r.url != address)))
        page.goto(address)
        return page

    yield opens
    for made in contexts:
        made.close()
    assert heard == []


def test_equations_and_pictures_are_visible(opened):
    """Mathematics and pictures have a size, and fractions of it are higher than a line."""
    page = opened("full")
    for what, least in (("math", 2), ("svg", 6)):
        boxes = [e.evaluate(BOX) for e in page.query_selector_all(what)]
        assert len(boxes) == least
        assert all(width > 40 and height > 12 for width, height in boxes)
    assert page.title() == (
        "Not verified · 3 layers: 1 verified, 1 failed, 1 incomplete; 2 errors, 1 warning, "
        "1 problem · gradverify"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_left_out(opened, scheme):
    """axe finds nothing to object to: contrast, names, headings, landmarks, what can be focused."""
    axe = from_npm("axe-core/axe.min.js")
    page = opened("full", bypass_csp=True, color_scheme=scheme)  # only to let axe in
    page.add_script_tag(path=str(axe))
    found = page.evaluate("axe.run(document)")
    assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
    assert len(found["passes"]) > 15


def test_a_narrow_page_scrolls_one_way(opened):
    """On a telephone what is wide scrolls by itself, not the page."""
    page = opened("full", width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_axe_can_object(opened):
    """A picture without a name is seen, so that the test above can fail."""
    axe = from_npm("axe-core/axe.min.js")
    page = opened("ok", bypass_csp=True)
    page.evaluate("document.querySelector('main').append(document.createElement('img'))")
    page.add_script_tag(path=str(axe))
    found = page.evaluate("axe.run(document)")
    assert "image-alt" in [v["id"] for v in found["violations"]]


def test_dark_is_dark(opened):
    """Who has set dark gets light text on a dark page, in pictures as well."""
    for scheme, dark in (("light", False), ("dark", True)):
        page = opened("full", color_scheme=scheme)
        colours = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('svg text')).fill]"
        )
        back, ink = (sum(map(int, c[4:-1].split(", "))) for c in colours)
        assert (back < 150) is dark
        assert (ink > back) is dark


def test_it_is_read_by_keyboard(opened):
    """The first key leads past the header, and what is folded opens with a key."""
    page = opened("full")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "report"
    page.focus("summary")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open")


def test_print_shows_what_is_folded(opened):
    """On paper nothing can be unfolded, so all of it is there."""
    page = opened("full")
    folded = page.query_selector("details dl")
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.is_visible()
    assert folded.evaluate(BOX)[1] > 20
    assert not page.query_selector(".top").is_visible()


def test_names_that_mean_harm_do_none(opened):
    """With all defences of the browser down, a name still runs nothing and loads nothing."""
    page = opened("hostile", bypass_csp=True)
    page.wait_for_timeout(200)
    assert page.evaluate("document.images.length") == 0
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_it_is_read_without_scripts(opened):
    """Whoever forbids scripts reads all of it."""
    page = opened("full", java_script_enabled=False)
    assert "a mean over N where the sum is derived" in page.inner_text("main")
