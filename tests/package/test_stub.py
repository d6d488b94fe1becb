"""_core.pyi, kept by hand, against what pybind11 says of the extension: names, and the arguments in their order."""

import ast
import inspect
import re
from pathlib import Path

import dragoman
from dragoman import _core

STUB = ast.parse(Path(dragoman.__file__).with_name("_core.pyi").read_text())


def arguments_of(docstring):
    """The names of the arguments in a signature as pybind11 writes it."""
    inside = docstring[docstring.index("(") + 1 :]
    names, depth, start = [], 0, 0
    for end, character in enumerate(inside):
        if character in ",)" and not depth:
            if name := re.match(r"\s*(\w+)", inside[start:end]):
                names.append(name[1])
            start = end + 1
            if character == ")":
                break
        depth += (character in "([{") - (character in ")]}")
    return [name for name in names if name != "self"]


def in_stub(body):
    """Functions with their arguments, classes with their members, properties and constants with None."""
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            decorators = {d.id for d in node.decorator_list if isinstance(d, ast.Name)}
            arguments = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
            found[node.name] = None if "property" in decorators else [name for name in arguments if name != "self"]
        elif isinstance(node, ast.ClassDef):
            found[node.name] = in_stub(node.body)
    return found


def in_module(owner):
    found = {}
    for name, value in vars(owner).items():
        value = getattr(owner, name)
        if isinstance(value, type):
            found[name] = in_module(value)
        elif isinstance(value, property):
            found[name] = None
        elif callable(value) and (value.__doc__ or "").startswith(f"{name}("):  # bound by pybind11
            found[name] = arguments_of(value.__doc__)
        elif inspect.isfunction(value):  # added in Python
            found[name] = [argument for argument in inspect.signature(value).parameters if argument != "self"]
    return found


def without_comparisons(members):
    return {name: value for name, value in members.items() if name not in ("__eq__", "__hash__", "__repr__")}


def test_arguments_are_read_from_a_signature():
    assert arguments_of("f(self: A, x: dict[str, int], y: tuple[int, int] = (1, 2), z: int) -> B") == ["x", "y", "z"]
    assert arguments_of("f() -> None") == []


def test_the_stub_has_what_the_extension_has():
    stub, module = in_stub(STUB.body), in_module(_core)
    assert stub.keys() == module.keys()
    for name, expected in module.items():
        if isinstance(expected, dict):
            assert without_comparisons(stub[name]) == without_comparisons(expected), name
        else:
            assert stub[name] == expected, name
