"""Modules and folders import in no circle, wherever in a file an import stands."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import dragoman

ROOT = Path(dragoman.__file__).parent


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in [*ROOT.rglob("*.py"), ROOT / "_core.pyi"]}


def imports_of(path):
    """Every module of the package that a file imports: at its head, inside a function, for type checkers alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in submodules if name in MODULES]
            if node.module in MODULES and len(found) < len(submodules):
                found.append(node.module)
            yield from found


def room_of(module):
    """The sub-package of a module, or the module itself where it lies at the top."""
    return ".".join(module.split(".")[:2])


def check(graph):
    TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


def test_the_walk_finds_the_modules_and_their_imports():
    assert "dragoman.nn.linear" in MODULES
    assert {"dragoman.arguments", "dragoman.nn.module"} <= set(imports_of(MODULES["dragoman.nn.linear"]))


def test_modules_import_in_no_circle():
    check({name: {other for other in imports_of(path) if other != name} for name, path in MODULES.items()})


def test_rooms_import_in_no_circle():
    graph = {}
    for name, path in MODULES.items():
        room = graph.setdefault(room_of(name), set())
        room.update(room_of(other) for other in imports_of(path))
        room.discard(room_of(name))
    check(graph)


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their names alone."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
