"""The pages of formulas: each has every part, and shows the figures of the articles it covers."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "formulas"
INDEX = (FOLDER / "index.md").read_text()
PAGES = re.search(r"```\{toctree\}\n(?:.*\n)*?\n((?:[\w-]+\n)+)```", INDEX)[1].split()

#: The parts of a page, in order; other headings may stand between them.
PARTS = (
    "Definition",
    "By hand",
    "The form that computers can trust",
    "Gradient",
    "Special values",
    "In TensorFlow",
    "Cost and error",
    "References",
)

#: (item, pages) of each row of the table of the articles' items.
ITEMS = [
    (item, re.findall(r"\{doc\}`([\w-]+)`", pages))
    for item, pages in re.findall(r"^\| (.+) \| (\{doc\}.+) \|$", INDEX, re.MULTILINE)
]


def text(page):
    return (FOLDER / f"{page}.md").read_text()


def test_every_page_is_in_the_list():
    assert {p.stem for p in FOLDER.glob("*.md")} == {*PAGES, "index"}
    assert len(PAGES) >= 12


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_every_part(page):
    headings = re.findall(r"^## (.+)$", text(page), re.MULTILINE)
    found = [part for h in headings for part in PARTS if h.startswith(part)]
    assert found == list(PARTS)
    assert text(page).count(">>> ") > 20


def test_every_figure_of_the_articles_is_on_its_page():
    figures = 0
    for item, pages in ITEMS:
        assert pages, item
        shown = "".join(map(text, pages))
        for figure in re.findall(r"\d+\.\d{4,}", item):
            assert figure in shown, (figure, pages)
            figures += 1
    assert len(ITEMS) > 20
    assert figures >= 20
