"""dragoman in one process with PyTorch and the system's OpenMP library: each has a pool of threads of its own."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.parity

SCRIPT = """
import ctypes, hashlib, os, sys

for name in sys.argv[1:]:
    ctypes.CDLL(name, ctypes.RTLD_GLOBAL) if name.startswith("lib") else __import__(name)

import dragoman as dg

dg.set_num_threads(2)
dg.manual_seed(0)
tokenizer = dg.Tokenizer.train(["a man sees a dog", "ein Mann sieht einen Hund"] * 9, vocab_size=64)
model = dg.Transformer(dg.TransformerConfig.tiny(vocab_size=tokenizer.vocab_size, dropout=0.1))
optimizer = dg.optim.AdamW(model, lr=1e-3)

def work():
    digest = hashlib.sha256()
    for _ in range(3):
        if "torch" in sys.modules:
            torch = sys.modules["torch"]
            torch.set_num_threads(2)
            rows = torch.ones(300, 300, requires_grad=True)
            (rows @ rows).sum().backward()
            assert (rows.grad == 600).all()
        loss = model.loss([tokenizer.encode("a man sees")] * 40, [tokenizer.encode("ein Mann")] * 40)
        loss.backward()
        optimizer.step()
        texts = dg.Translator(model, tokenizer)(["a dog", "a man sees a dog"] * 9, max_length=8)
        digest.update(repr((loss.item(), texts)).encode())
    return digest.hexdigest()

print(work())
sys.stdout.flush()
child = os.fork()
if child == 0:
    model.loss([[4, 5]], [[6]]).backward()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def result(*loaded_before):
    """What training steps and translations come to, in a process that has first loaded these libraries."""
    pytest.importorskip("tokenizers")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT, *loaded_before]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pytorch_and_another_libgomp_change_no_bit():
    pytest.importorskip("torch")
    alone = result("dragoman")
    for order in [("dragoman", "torch"), ("torch", "dragoman"), ("libgomp.so.1", "torch", "dragoman")]:
        assert result(*order) == alone, order
