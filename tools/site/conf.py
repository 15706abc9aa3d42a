"""Settings of Sphinx for the site. Nothing on it loads from elsewhere."""

from onnxmi.version import __version__

project = "onnxmi"
author = "the onnxmi authors"
copyright = "the onnxmi authors, Apache-2.0"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # tests execute the notebooks
smartquotes = False  # they make a dash of the `--` of an option that stands in a sentence
default_role = "code"  # `name` in docstrings
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_typehints = "none"  # the docstrings say them
autodoc_member_order = "bysource"
autoclass_content = "class"

html_theme = "furo"
html_title = f"onnxmi {__version__}"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"light_css_variables": {"color-brand-primary": "#2f4b9a", "color-brand-content": "#2f4b9a"}}
