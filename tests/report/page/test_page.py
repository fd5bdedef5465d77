"""The page of a study, as a browser shows it: complete, sortable, and nothing in it runs but its own script."""

import json
import re
import shutil

import numpy as np
import pytest

from alignsim.analysis.claims.preregistration import register
from alignsim.config.claims import Claim
from alignsim.config.dotted import flatten
from alignsim.config.settings import BASELINE
from alignsim.evaluation.measures import DIVERGED, MEASURES
from alignsim.report.draw import report_study
from alignsim.runs.storage.versions import RESULTS_VERSION
from alignsim.runs.train_config import load

HOSTILE = '"><script>document.title = "broken"</script><img src=x onerror=alert(1)>'
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def write_condition(study, method, env, factor, value, seeds=12, state="finished"):
    """The folder of a condition as a run leaves it, its numbers made up."""
    target = f"alignsim.methods.{method}.{method.upper()}"
    config = load({"env": {"complexity_factor": factor}, "method": {"_target_": target}})
    values = flatten(config.identity)
    rng = np.random.default_rng(int(100 * value))
    lines = [",".join(["method", "env", "seed", *MEASURES, *DIVERGED, *values, "condition", "code"])]
    for seed in range(seeds):
        numbers = [f"{number:.4f}" for number in rng.normal(value, 0.02, len(MEASURES))]
        cells = [method, f'"{env.replace(chr(34), chr(34) * 2)}"', str(seed), *numbers, "False", "", ""]
        lines.append(",".join([*cells, *map(str, values.values()), config.digest, str(RESULTS_VERSION)]))
    folder = study / f"{method}-{'gap' if factor > 1 else 'no_gap'}-{config.hash}"
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    times = {"started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:01:00+00:00", "device": "cpu"}
    status = {"state": state, "command": f"train method={method} '{HOSTILE}'", "versions": {"torch": "2.13"}, **times}
    (folder / "status.json").write_text(json.dumps(status))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study whose every text tries to break out of its place."""
    folder = tmp_path_factory.mktemp("outputs") / "hostile"
    compared = {"condition": {"method": "rlhf"}, "baseline": {"method": "dpo"}, "source": f"me {HOSTILE}"}
    at_the_gap = {"env.complexity_factor": 2.0}
    claims = {
        "wins": Claim(says=f"RLHF wins {HOSTILE}", predicts="greater", where=at_the_gap, **compared),
        "loses": Claim(says="RLHF loses", predicts="less", where=at_the_gap, **compared),
        "nowhere": Claim(says="And there?", predicts="greater", where={"env": HOSTILE + "?"}, **compared),
    }
    register(folder, f"Is it so {HOSTILE}?", claims, 12, f"train {HOSTILE}")
    for method, gap, no_gap in (("rlhf", 0.9, 0.91), ("dpo", 0.5, 0.905)):
        write_condition(folder, method, HOSTILE, 2.0, gap)
        write_condition(folder, method, "no_gap", 1.0, no_gap, state="failed" if method == "dpo" else "finished")
    assert report_study(folder, "plot study=hostile", BASELINE)
    return folder


def test_the_page_says_what_was_asked_found_and_done(study):
    text = (study / "report.html").read_text()
    assert "3 claims: 1 supported, 1 refuted, 1 inconclusive. 4 conditions, 12 seeds each." in text
    assert "python scripts/train.py" in text
    assert "python scripts/plot.py study=hostile" in text
    assert "2026-01-01 10:00 UTC" in text
    assert "0 to 11" in text, "the seeds"
    assert re.search(r"<li>dpo-no_gap-\w+: .* failed; .* 12 .*</li>", text), "a warning"
    assert "env.n_pairs" in text, "the configuration"


def test_nothing_from_configuration_becomes_markup(study):
    text = (study / "report.html").read_text()
    assert "<script>document.title" not in text
    assert "<img src=x" not in text
    assert text.count("<script>") == 1


def test_the_page_asks_for_nothing_from_elsewhere(study):
    text = (study / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "@import" not in text
    assert "url(" not in text


@pytest.fixture(scope="module")
def browser():
    """A headless browser."""
    api = pytest.importorskip("playwright.sync_api", reason="the pages of studies need playwright")
    with api.sync_playwright() as playwright:
        try:  # without a browser of this machine, the one that playwright has installed
            browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        except api.Error:
            pytest.skip("the pages of studies need Chromium")
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, study):
    """Opens the page; whatever it complains of, or asks the network for, fails the test."""
    warnings, contexts = [], []

    def opened(**settings):
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: warnings.append(message.text))
        page.on("pageerror", lambda error: warnings.append(str(error)))
        page.on("dialog", lambda dialog: warnings.append(dialog.message))
        page.on("request", lambda request: warnings.extend([request.url] * request.url.startswith("http")))
        page.goto((study / "report.html").as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert warnings == []


def column(page, number):
    return page.locator(f"#means tbody td:nth-child({number})").all_text_contents()


def test_a_table_sorts_by_mouse_and_by_keyboard(visit):
    page = visit()
    headings = page.locator("#means th").all_text_contents()
    number = headings.index("normalized value [95 %]") + 1
    button = page.locator("#means").get_by_role("button", name="normalized value")
    button.click()
    rising = [float(text.split()[0]) for text in column(page, number)]
    assert rising == sorted(rising)
    assert page.locator("#means th[aria-sort=ascending]").count() == 1
    button.press("Enter")
    falling = [float(text.split()[0]) for text in column(page, number)]
    assert falling == rising[::-1]
    page.locator("#means").get_by_role("button", name="method").press("Space")
    assert column(page, 1) == sorted(column(page, 1))
    assert page.locator("#means th[aria-sort]").count() == 1


def test_the_page_is_shown_whole_on_a_phone_and_in_the_dark(visit, tmp_path):
    light = visit(viewport={"width": 1200, "height": 900})
    phone = visit(viewport={"width": 390, "height": 844})
    dark = visit(viewport={"width": 1200, "height": 900}, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert light.evaluate(background) != dark.evaluate(background)
    for page in (light, phone, dark):
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"
        assert page.screenshot(path=tmp_path / "page.png", full_page=True)
        loaded = page.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert loaded
        assert min(loaded) > 100, "every figure is shown"


def test_the_page_can_be_used_without_seeing_it(visit):
    page = visit()
    assert page.locator("html").get_attribute("lang") == "en"
    assert all(page.locator("img").evaluate_all("all => all.map(one => one.alt.length > 10)"))
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1, "no level of headings is skipped"
    assert page.locator("th:not([scope])").count() == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    named = page.locator("[aria-labelledby]").evaluate_all(
        "all => all.every(one => document.getElementById(one.getAttribute('aria-labelledby')))"
    )
    assert named
    identifiers = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(identifiers) == len(set(identifiers))
    for link in page.locator("nav a").evaluate_all("all => all.map(one => one.getAttribute('href'))"):
        assert page.locator(link).count() == 1
