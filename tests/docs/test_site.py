"""The site: its links resolve, its figures are there, and it is built without a warning."""

import importlib
import re
import subprocess
import sys

import pytest

from alignsim.config.moved import MODULES
from alignsim.config.renames import RENAMED_KEYS
from tests.docs.texts import PAGES, ROOT

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_internal_links_resolve(page):
    for target in LINK.findall(PAGES[page]):
        path, _, anchor = target.partition("#")
        assert "://" not in target, "the pages need no network"
        linked = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert linked.is_file(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


def test_every_page_stands_in_the_table_of_contents():
    listed = re.findall(r"^[\w/-]+$", PAGES["docs/index.md"], re.MULTILINE)
    pages = {page.removeprefix("docs/").removesuffix(".md") for page in PAGES if page.startswith("docs/")}
    assert sorted(listed) == sorted(pages - {"index"})


def test_every_page_opens_with_a_question():
    for page, text in PAGES.items():
        if page not in ("README.md", "docs/index.md", "docs/changelog.md"):
            assert re.match(r"# .+\n\n\*[^*]+\?\*\n", text), page


def test_the_figures_of_the_texts_are_those_in_their_folder():
    shown = {path.rpartition("/")[2] for text in PAGES.values() for path in LINK.findall(text) if "images/" in path}
    assert shown == {path.name for path in (ROOT / "docs" / "images").iterdir()}


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_modules_classes_and_files_that_a_page_names_exist(page):
    for name in re.findall(r"(?:`| |^)(alignsim(?:\.\w+)+)(?:`|\(|$)", PAGES[page], re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ImportError:
            assert hasattr(importlib.import_module(module), attribute), name
    for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|yaml))`", PAGES[page]):
        places = [ROOT / path, ROOT / "alignsim" / path, ROOT / "conf" / path]
        assert any(place.exists() for place in places) or "my_" in path, path


def test_the_changelog_names_every_old_key_and_module():
    named = set(re.findall(r"[\w.]+", PAGES["CHANGELOG.md"]))
    modules = {name.removeprefix("alignsim.") for name in MODULES}
    assert {name for name in modules if name not in named and name.partition(".")[0] not in named} == set()
    assert {row.old.rpartition(".")[2] for row in RENAMED_KEYS} <= {word for name in named for word in name.split(".")}


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("myst_parser", reason='the site needs pip install -e ".[docs]"')
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for page in PAGES:
        if page.startswith("docs/"):
            assert (tmp_path / page.removeprefix("docs/")).with_suffix(".html").is_file()
