"""How the site is built: `python -m sphinx -W --keep-going docs docs/_build`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import reference_tables  # noqa: E402 (beside this file)

import alignsim  # noqa: E402

project = "alignsim"
author = "the developers of alignsim"
release = alignsim.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a page may include one whose headings start at another level

html_theme = "furo"
html_title = "alignsim"
html_static_path = ["_static"]
html_css_files = ["alignsim.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_dark_style = "github-dark"

default_role = "code"  # the docstrings write code between single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give shapes, which say more than `Tensor`
napoleon_custom_sections = [("Attributes", "params_style")]  # the fields of a dataclass are its parameters


def insert_tables(app, page, source):
    """Put the generated tables of keys where a page asks for them."""
    source[0] = reference_tables.inserted(source[0])


def setup(app):
    """Register what this file adds to Sphinx."""
    app.connect("source-read", insert_tables)
