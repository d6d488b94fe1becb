"""A short run of tests/damage.py for each kind of file. docs/inside/reliability.md has the long ones."""

import os

import damage
import pytest

pytest.importorskip("tokenizers")

COUNT = int(os.environ.get("DRAGOMAN_DAMAGED_FILES", "200"))


@pytest.mark.parametrize("kind", ["model", "config", "adapter", "tokenizer", "checkpoint", "shards", "toml"])
def test_damaged_files_are_refused(kind):
    verdicts, findings = damage.run(kind, COUNT, seed=1)
    assert not findings
    assert verdicts.total() == COUNT and verdicts["refused"] > COUNT // 2


def test_a_finding_is_found(monkeypatch):
    """What reads the file says more than ValueError: the program must tell."""

    class Files:
        names = ("a.json",)
        allowed = ()

        def __init__(self, error):
            self.error = error

        def open(self):
            if self.error is not None:
                raise self.error

    class PanicException(BaseException):
        pass

    assert damage.verdict_of(Files(None)) == "opened"
    assert damage.verdict_of(Files(ValueError("x/a.json: no"))) == "refused"
    for error in (ValueError("no"), KeyError("a.json"), MemoryError(), PanicException()):
        assert damage.verdict_of(Files(error)).startswith("finding")
