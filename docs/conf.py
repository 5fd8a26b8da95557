"""Configuration of the documentation.

    sphinx-build -W -n docs docs/_build/html

The package must be installed: its docstrings, registry and results are what is printed.
"""

import datetime
import os
import sys
import tomllib
from pathlib import Path

# The products in examples and pictures are small; two threads of OpenBLAS, which spin while they
# wait, took ten times as long beside other work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generate  # noqa: E402 - beside this file
from docutils import nodes  # noqa: E402
from sphinx.util.docutils import SphinxDirective  # noqa: E402

import fastxent as fx  # noqa: E402

# Before Sphinx looks for pages: those of the public names, the tables and the pictures.
pictures = generate.main()

project = "fastxent"
author = "The fastxent developers"
copyright = f"{datetime.date.today().year}, {author}"
version = release = fx.__version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "generated"]
nitpicky = True
numfig = True  # numbers equations by page where pages are numbered: those of the formulas
default_role = "py:obj"
add_module_names = False
toc_object_entries = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

autodoc_typehints = "none"  # the docstrings give the types, with shapes
numpydoc_show_class_members = False
_tools = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["tool"]
numpydoc_validation_checks = set(_tools["numpydoc_validation"]["checks"])

# MathJax is copied into the site (see ``generate``): no page asks another server for anything.
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = mathjax4_config = {
    "options": {"enableMenu": False},  # its parts are not in the site
    "tex": {
        "macros": {
            "lse": r"\mathrm{lse}",
            "logp": r"\mathrm{log1p}",
            "softmax": r"\mathrm{softmax}",
        }
    },
}

html_theme = "pydata_sphinx_theme"
html_title = "fastxent"
html_static_path = ["_static", "generated/static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_copy_source = False
html_use_index = html_domain_indices = False  # the list of functions is one
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    # Wide tables have the room to themselves.
    "secondary_sidebar_items": {
        "**": ["page-toc"],
        "reference/special-values": [],
        "reference/errors": [],
        "reference/speed": [],
    },
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "quickstart": []}


def trim(app, doctree, name):
    """Drop the blank line that a doctest in Markdown needs before its closing fence."""
    for block in doctree.findall(nodes.literal_block):
        text = block.astext().rstrip()
        block.children = [nodes.Text(text)]
        block.rawsource = text


class Picture(SphinxDirective):
    """A picture of ``docs/pictures``, drawn by ``generate``: its name, and below it a caption."""

    required_arguments = 1
    has_content = True

    def run(self):
        """Both versions; the theme shows that of the reader's mode."""
        name = self.arguments[0]
        self.env.note_dependency(str(HERE / "pictures" / f"{name}.py"))
        if name not in pictures:
            raise self.error(f"docs/pictures has no {name}.py")
        figure = nodes.figure(classes=["picture"], align="center")
        for mode in generate.MODES:
            uri = f"/generated/pictures/{name}-{mode}.svg"
            figure += nodes.image(uri=uri, alt=pictures[name], classes=[f"only-{mode}"])
        if self.content:
            paragraph, *_ = self.parse_content_to_nodes()
            figure += nodes.caption("", "", *paragraph.children)
        return [figure]


def setup(app):
    """Register the above."""
    app.add_directive("picture", Picture)
    app.connect("doctree-resolved", trim)
