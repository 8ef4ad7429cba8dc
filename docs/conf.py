"""How Sphinx makes the documentation's site of the Markdown in this repository.

``make docs`` calls it, by way of ``make_site.py``. The pages are read where they are, so that their
links also work in a checkout. The reference comes from the docstrings.
"""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

from kps.version import __version__

project = "KPS"
version = release = __version__
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "spec/*.md",
    "clients/*/README.md",
    "benchmarks/*.md",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
exclude_patterns = ["**/node_modules"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 4
# Code that leaves something out with an ellipsis is no program.
suppress_warnings = ["misc.highlighting_failure"]

napoleon_numpy_docstring = False
autodoc_member_order = "groupwise"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = f"KPS {__version__}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
templates_path = ["templates"]
html_context = {"site_versions": os.environ.get("KPS_SITE_VERSIONS", "").split()}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "versions.html",
        "sidebar/scroll-end.html",
    ]
}


def setup(app: Sphinx) -> None:
    """Let the pages link to folders, which a site cannot show, and keep colons in docstrings."""

    def without_folders(app: Sphinx, page: str, source: list[str]) -> None:
        here = Path(app.srcdir, page).parent
        source[0] = re.sub(
            r"\[([^][]+)\]\(([\w./-]+)\)",
            lambda link: link[1] if (here / link[2]).is_dir() else link[0],
            source[0],
        )

    def with_colons(
        app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]
    ) -> None:
        # napoleon takes what an attribute's first line has before a colon for a type. With an empty
        # one in front, it leaves the sentence whole.
        if what in ("attribute", "property") and lines:
            lines[0] = f": {lines[0]}"

    app.connect("source-read", without_folders)
    app.connect("autodoc-process-docstring", with_colons, priority=400)
