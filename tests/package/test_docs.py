"""The documentation: every public name is described, every option has a line, every link leads to a file."""

import importlib
import inspect
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import dragoman as dg
import pytest
from dragoman.train.options import TrainingOptions

ROOT = Path(__file__).parents[2]
API = ROOT / "docs/api"

# The tests also run from a folder that holds nothing else of the source tree.
pytestmark = pytest.mark.skipif(not API.is_dir(), reason="the documentation is not here")

MODULES = (
    "",
    "nn",
    "functional",
    "optim",
    "lora",
    "models",
    "train",
    "generate",
    "predict",
    "server",
    "data",
    "interop",
    "plot",
    "random",
    "cuda",
)
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]


def import_module(name):
    return importlib.import_module(f"dragoman.{name}" if name else "dragoman")


def public_names(module):
    """What `__all__` lists, or without one every public class and function that the module defines."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def described_names():
    """The objects that the pages of docs/api describe, by their identity."""
    described = set()
    for page in API.glob("*.md"):
        text = page.read_text()
        for block in re.split(r"^\.\. ", text, flags=re.M)[1:]:
            directive, target = re.match(r"(\w+):: (\S+)", block).groups()
            if directive == "automodule":
                assert ":members:" in block, page
                excluded = re.search(r":exclude-members: (.*)", block)
                left_out = set(excluded[1].split(", ")) if excluded else set()
                module = importlib.import_module(target)
                described |= {id(getattr(module, name)) for name in public_names(module) if name not in left_out}
            else:
                module, _, name = target.rpartition(".")
                described.add(id(getattr(importlib.import_module(module), name)))
    return described


def has_own_docstring(value):
    """Whether somebody wrote a docstring; pybind11 and dataclasses write the signature alone."""
    text = (inspect.getdoc(value) or "").strip()
    return "\n" in text or not text.startswith(f"{value.__name__}(")


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_described(name):
    module = import_module(name)
    described = described_names()
    for public in public_names(module):
        value = getattr(module, public)
        assert id(value) in described, f"{module.__name__}.{public} is on no page of docs/api"
        if callable(value):
            assert has_own_docstring(value), f"{module.__name__}.{public} has no docstring"


def test_public_modules_have_a_page_in_the_table_of_contents():
    pages = {path.stem for path in API.glob("*.md")} - {"index"}
    assert pages == {name or "dragoman" for name in MODULES}
    contents = (API / "index.md").read_text()
    assert all(re.search(rf"^{page}$", contents, flags=re.M) for page in pages)


@pytest.mark.parametrize("owner", [TrainingOptions, dg.Trainer, dg.TransformerConfig])
def test_every_option_has_a_line_in_the_docstring(owner):
    """In the docstring of the class that adds it."""
    inherited = {field.name for base in owner.__bases__ if is_dataclass(base) for field in fields(base)}
    for name in {field.name for field in fields(owner)} - inherited:
        assert re.search(rf"^ +(\w+, )*{name}(, \w+)*: ", owner.__doc__, flags=re.M), name


def run_page(page):
    """Runs the Python of a page, block after block; returns its names."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), flags=re.M | re.S)
    names = {}
    exec("\n".join(blocks), names)
    return names


def test_the_example_of_a_task_runs(tmp_path, monkeypatch, one_thread):
    monkeypatch.chdir(tmp_path)
    assert run_page("docs/guide/own_task.md")["records"][-1]["valid_loss"] < 0.1


def test_the_examples_of_tasks_run(tmp_path, monkeypatch, one_thread):
    pytest.importorskip("tokenizers")
    monkeypatch.chdir(tmp_path)
    names = run_page("docs/guide/tasks.md")
    assert names["classify"]("ein guter Film").label == "good"
    assert names["tag"]("the dog runs") == [("the", "DET"), ("dog", "NOUN"), ("runs", "VERB")]
    assert names["records"][-1]["valid_accuracy"] > 90


def test_the_example_of_a_model_runs(tmp_path, monkeypatch, capsys, one_thread):
    monkeypatch.chdir(tmp_path)
    run_page("docs/guide/models.md")
    assert capsys.readouterr().out == "[4 5 6]\n"


@pytest.mark.parametrize("page", ["first_steps", "tokenizers", "translating", "serving", "decoding"])
def test_the_python_of_the_guide_runs(page, tmp_path, monkeypatch, one_thread):
    for library in ("tokenizers", "matplotlib"):
        pytest.importorskip(library)
    tokenizer = dg.Tokenizer.train(["A man is reading.", "Ein Mann liest."] * 9, vocab_size=64)
    dg.Transformer(dg.TransformerConfig.tiny(vocab_size=tokenizer.vocab_size)).save(tmp_path / "en-de")
    tokenizer.save(tmp_path / "en-de/tokenizer.json")
    monkeypatch.chdir(tmp_path)
    assert run_page(f"docs/guide/{page}.md")
    assert (tmp_path / "attention.png").exists() == (page == "translating")


def test_the_example_of_attention_runs(capsys):
    run_page("docs/guide/attention.md")
    assert capsys.readouterr().out.startswith("MultiHeadAttention, 61,536 parameters")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
