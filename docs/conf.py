"""Sphinx builds the user guide: python -m sphinx -W -b html docs docs/_build"""

project = "dragoman"
author = "The dragoman authors"
extensions = ["myst_parser"]
html_theme = "furo"
myst_heading_anchors = 3
exclude_patterns = ["_build"]
