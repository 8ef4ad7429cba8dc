"""How Sphinx makes the documentation's site of the Markdown in this repository.

``make docs`` calls it. The pages are read where they are, so that their links also work in a
checkout; the reference comes from the docstrings.
"""

from kps.version import __version__

project = "KPS"
version = release = __version__
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "spec/*.md",
    "clients/*/README.md",
    "benchmarks/*.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "SECURITY.md",
]
exclude_patterns = ["**/node_modules"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# Code that leaves something out with an ellipsis is no program.
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = f"KPS {__version__}"
html_copy_source = False
