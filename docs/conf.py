"""Sphinx: README, the pages of docs/ and the docstrings of the library as one site; `make docs` writes build/site.

Why Sphinx, by the package index of November 2026: Sphinx 9.2 (October 2026) and the theme furo (December 2025) call
themselves stable, and myst-parser 5.2 is of this month. mkdocs-material 9.8 calls itself inactive and ends in May 2027,
on MkDocs 1.6 of 2024, whose 2.0 drops all plugins. Its successor Zensical calls itself alpha, and 0.1 needs a package
that the index does not have. And a site of Sphinx can be searched without a server.
"""

import logging
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# This tree's library, never an installed one; and the extensions of this site.
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "docs" / "site")]
# What TensorFlow and faiss tell of the processor would hide what Sphinx warns of.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
logging.getLogger("faiss").setLevel(logging.WARNING)

from brain_tumor import __version__  # noqa: E402

project = html_title = "brain-tumor"
author = "The brain-tumor authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "site_links", "site_notebook", "site_rooms"]
highlight_language = "none"
smartquotes_action = "D"  # quotes and dots as they were written
myst_heading_anchors = 4
toc_object_entries_show_parents = "hide"

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of Keras and pydantic are not about this library
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "special-members": "__call__", "ignore-module-all": True}
maximum_signature_line_length = 90
add_module_names = False
napoleon_numpy_docstring = False
# `a, b: text` is one item, of arguments and of attributes.
napoleon_use_param = False
napoleon_custom_sections = [("Attributes", "params_style")]

# No dates, no copies of the sources, nothing from elsewhere: furo uses the fonts of the reader's system.
html_theme = "furo"
pygments_dark_style = "github-dark"  # the theme's own underlines modules like links
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_favicon = "../src/brain_tumor/serving/web/icon.svg"
html_show_search_summary = False  # would be fetched, which a browser refuses where no server is
html_use_index = html_domain_indices = False
html_copy_source = html_show_sourcelink = html_show_copyright = html_show_sphinx = False
