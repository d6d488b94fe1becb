"""Sphinx builds the documentation: python -m sphinx -q -W -b html docs docs/_build"""

import inspect
import re

project = "dragoman"
author = "The dragoman authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
myst_heading_anchors = 3
exclude_patterns = ["_build"]

# docs/api is made from the docstrings of the installed package.
autodoc_default_options = {"special-members": "__call__"}
autodoc_member_order = "bysource"
default_role = "literal"  # `name` in a docstring is code
napoleon_use_ivar = True
python_maximum_signature_line_length = 100


class Written(str):
    """An annotation as the source has it."""

    def __repr__(self):
        return re.sub(r"\b(npt|np|_core|arguments)\.", "", self)


def as_written(annotation):
    return Written(annotation) if isinstance(annotation, str) else annotation


def signature_as_written(app, what, name, obj, options, signature, return_annotation):
    """Aliases such as ArrayLike keep their names, which autodoc would replace by long unions."""
    if what not in ("class", "function", "method"):
        return None
    try:
        written = inspect.signature(obj)
    except (TypeError, ValueError):  # an op of the extension
        return None
    parameters = [
        parameter.replace(annotation=as_written(parameter.annotation)) for parameter in written.parameters.values()
    ]
    if what == "method" and inspect.isfunction(obj):
        parameters = parameters[1:]  # self
    text = str(written.replace(parameters=parameters, return_annotation=as_written(written.return_annotation)))
    arguments, _, returns = text.partition(" -> ")
    return arguments, returns if returns and what != "class" else None


def setup(app):
    app.connect("autodoc-process-signature", signature_as_written)
