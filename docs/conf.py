"""How Sphinx builds these pages: `make docs`."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "jetstream-eventstore"
author = "the contributors"
version = release = installed("jetstream-eventstore")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "reference"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

suppress_warnings = ["ref.python"]  # `type` in an annotation may be the builtin, or a field

html_theme = "furo"
html_title = "jetstream-eventstore"
html_show_copyright = False
linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1).*"]
