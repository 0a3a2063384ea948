"""The page at /, in headless Chromium: what it shows is what the engine wrote, coloured by source.

Without a browser these tests fail; `pytest -m "not browser"` leaves them out.
"""

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.orchestrator.server.wire import wait_until

ROOT = Path(__file__).parents[3]
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking".split()
FLAGS += "--disable-component-update --disable-sync".split()
TURN = "one two three one two three one two three one two"


@pytest.fixture(scope="module")
def browser():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("no Chromium: apt install chromium, name one in CHROMIUM, or run pytest -m 'not browser'")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """An empty page; what it complains about, and what it fetches from elsewhere, fails the test."""
    page = browser.new_page(viewport={"width": 900, "height": 700})
    page.wrong, page.fetched = [], []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("request", lambda request: page.fetched.append(request.url))
    yield page
    page.close()
    assert page.wrong == [] and all(url.startswith(("http://127.0.0.1:", "data:")) for url in page.fetched)


def visit(page, server, tokens=40):
    page.goto(server.url)
    expect(page.locator("#model")).to_have_text("tiny")
    page.fill("#limit", str(tokens))


def ask(page, text):
    page.fill("#question", text)
    page.press("#question", "Enter")


def is_ready(page):
    expect(page.locator("body")).to_have_attribute("data-state", "ready")


def words(page, selector):
    return page.eval_on_selector_all(selector, "nodes => nodes.map(node => node.textContent)")


@pytest.mark.browser
def test_an_answer_is_the_engines_in_the_colours_of_its_sources(page, server):
    visit(page, server, 80)
    ask(page, TURN)
    is_ready(page)
    alone = server.engine.chat([{"role": "user", "content": TURN}], max_tokens=80)
    assert words(page, "article.assistant") == [alone.text]
    assert "".join(words(page, "article.assistant span")) == alone.text
    assert alone.stats.n_accepted > 0
    assert len(words(page, "article.assistant span.copied[data-source=lookup]")) > 0
    assert words(page, "#legend li") == ["target", "lookup"]
    colours = "nodes => nodes.map(node => getComputedStyle(node).backgroundColor)"
    assert len(set(page.eval_on_selector_all("#legend li", colours))) == 2
    figures = words(page, "#figures")[0]
    assert figures.startswith("80 tokens") and "tokens/s" in figures
    assert f"tau {alone.stats.tau:.2f}" in figures


@pytest.mark.browser
def test_a_conversation_goes_on(page, server):
    visit(page, server, 10)
    for text in ("a <b>first</b> turn", "a second one"):
        ask(page, text)
        is_ready(page)
    assert words(page, "article.user") == ["a <b>first</b> turn", "a second one"]
    first, second = words(page, "article.assistant")
    roles = ("user", "assistant", "user")
    texts = ("a <b>first</b> turn", first, "a second one")
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    assert second == server.engine.chat(messages, max_tokens=10).text
    page.click("#clear")
    assert words(page, "article") == []


@pytest.mark.browser
def test_what_is_being_written_stays_in_view(page, server):
    visit(page, server, 200)
    for text in ("a first turn\n" * 20, "a second one"):
        ask(page, text)
        is_ready(page)
    gap = "talk => talk.scrollHeight - talk.scrollTop - talk.clientHeight"
    assert abs(page.eval_on_selector("#talk", gap)) < 2
    for part in ("#send", "#figures"):
        expect(page.locator(part)).to_be_in_viewport(ratio=1)


@pytest.mark.browser
@pytest.mark.usefixtures("slow")
def test_stop_frees_the_place(page, start):
    server = start(max_queue=0)
    visit(page, server, 4000)
    ask(page, "tell me everything")
    expect(page.locator("article.assistant span").first).to_be_visible()
    page.click("#stop")
    is_ready(page)
    wait_until(server.is_free, 3)
    page.fill("#limit", "3")
    ask(page, "again")
    is_ready(page)
    assert len(words(page, "article.assistant")) == 2 and words(page, "article.error") == []


@pytest.mark.browser
@pytest.mark.usefixtures("slow")
def test_what_went_wrong_is_said_on_the_page(page, start):
    server = start(timeout=0.3)
    visit(page, server, 4000)
    ask(page, "tell me everything")
    expect(page.locator("article.error")).to_contain_text("longer than 0.3 seconds")
    is_ready(page)


@pytest.mark.browser
def test_a_key_is_asked_for_where_the_server_has_one(page, start):
    server = start(api_key="s3cret")
    page.goto(server.url)
    expect(page.locator("#keyfield")).to_be_visible()
    page.fill("#key", "s3cret")
    page.press("#key", "Tab")
    expect(page.locator("#model")).to_have_text("tiny")
    page.fill("#limit", "5")
    ask(page, "hello")
    is_ready(page)
    assert len(words(page, "article.assistant span")) > 0 and words(page, "article.error") == []


def test_the_page_may_load_nothing_from_elsewhere(server):
    answer = server.wire.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    for path in ("/", "/page.css", "/page.js", "/stream.js"):
        answer = server.wire.get(path)
        assert answer.status == 200 and answer.headers["x-content-type-options"] == "nosniff"
        assert "https://" not in answer.text


def test_a_wheel_contains_the_page(tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    built = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(built) as wheel:
        names = {name for name in wheel.namelist() if "server/page/" in name}
    files = ("index.html", "page.css", "page.js", "stream.js")
    assert names == {f"orchestrator/server/page/{name}" for name in files}
