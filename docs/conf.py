"""Sphinx builds the documentation: python -m sphinx -q -W -b html docs docs/_build"""

project = "dragoman"
author = "The dragoman authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
myst_heading_anchors = 3
exclude_patterns = ["_build"]

# docs/api is made from the docstrings of the installed package.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
default_role = "literal"  # `name` in a docstring is code
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
