"""The documentation's completeness: every public name has its example and its places."""

import inspect
import re
import runpy
import sys
from pathlib import Path

import pytest
from test_house import RESULTS, SETTINGS

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
from generate import PUBLIC, speed  # noqa: E402 - the public names are found there

#: Objects that hold words or results.
WORDS = {"compat.tensorflow.losses.Reduction", "samplers.Candidates"}

#: What is no formula.
NO_FORMULA = {*SETTINGS, *RESULTS, "__version__", *WORDS}
MODULES = {name for name, thing in PUBLIC.items() if inspect.ismodule(thing)}
FORMULAS = "\n".join(path.read_text() for path in (DOCS / "formulas").glob("*.md"))
MIGRATION = "\n".join(path.read_text() for path in (DOCS / "howto").glob("from-*.md"))

#: Prefix of ours -> how pages may call the same name of the peer.
PEERS = {
    "compat.tensorflow.nn.": ("tf.nn.", "tf.random.", "tf.compat.v1.nn."),
    "compat.tensorflow.losses.": ("tf.losses.", "tf.compat.v1.losses."),
    "compat.tensorflow.legacy_seq2seq.": ("legacy_seq2seq.",),
    "compat.torch.nn.functional.": ("torch.nn.functional.", "F."),
    "compat.torch.nn.": ("torch.nn.", "nn."),
}


def _named(name, text):
    """Is the name, ours or the peer's, in a text?"""
    spellings = [f"fastxent.{name}", f"fx.{name}"]
    for prefix, others in PEERS.items():
        if name.startswith(prefix):
            spellings += [other + name.removeprefix(prefix) for other in others]
            break
    return any(re.search(rf"(?<![\w.]){re.escape(s)}(?!\w)", text) for s in spellings)


def _names(skip=()):
    return sorted(set(PUBLIC) - MODULES - set(skip))


@pytest.mark.parametrize("name", _names({*RESULTS, "__version__"}))
def test_every_public_name_has_an_example(name):
    text = inspect.getdoc(PUBLIC[name])
    assert "\nExamples\n" in text
    assert ">>>" in text.split("\nExamples\n")[1]


@pytest.mark.parametrize("name", _names(NO_FORMULA))
def test_every_function_has_a_place_in_a_formula_page(name):
    assert _named(name, FORMULAS)


@pytest.mark.parametrize("name", [n for n in _names() if n.startswith("compat")])
def test_every_compatible_name_is_in_a_migration_table(name):
    assert f"<fastxent.{name}>" in MIGRATION


def test_every_picture_is_shown_and_described():
    shown = set()
    for path in DOCS.rglob("*.md"):
        if "generated" not in path.parts and "_build" not in path.parts:
            shown |= set(re.findall(r"^ *```\{picture\} (\S+)$", path.read_text(), re.MULTILINE))
    scripts = {path.stem: path for path in (DOCS / "pictures").glob("*.py")}
    assert shown == set(scripts)
    for path in scripts.values():
        found = runpy.run_path(str(path))
        assert len(found["ALT"]) > 60
        assert found["ALT"].endswith(".")


def test_the_readme_has_the_recorded_table():
    """If not: ``python docs/generate.py``."""
    assert speed() in (DOCS.parent / "README.md").read_text()
