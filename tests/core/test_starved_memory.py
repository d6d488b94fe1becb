"""A process with little memory left: MemoryError, or the right values, and all is usable afterwards.

A few megabytes are left where a step or a translation runs: with none at all, NumPy itself ends the process. Its
indexing may also end it at the very allocation that fails (seen in `take_along_axis`), which is no fault of ours.
"""

import os
import subprocess
import sys
import textwrap

import dragoman as dg
import pytest

# AddressSanitizer's shadow memory needs terabytes of addresses.
pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="the limit is of addresses"),
]

PREPARE = """
    import os, resource, sys, threading
    import numpy as np
    import dragoman as dg
    from dragoman import functional as F

    def starve(spare):
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))

    def relieve():
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)

    def tasks():
        return len(os.listdir("/proc/self/task"))

    def starved(spare, call):
        starve(spare)
        try:
            return call()
        except MemoryError:
            return None
        finally:
            relieve()
"""


def run(script, *, threads=4, **environment):
    """What the script prints; it must end by itself."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(PREPARE) + textwrap.dedent(script)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": str(threads)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 or died_in_numpy(done.stderr), done.stderr + done.stdout
    return done.stdout


def died_in_numpy(stderr):
    """Whether the process was ended by a signal while NumPy ran, as it does in `top_k`, which calls nothing else."""
    frames = stderr.partition("(most recent call first):\n")[2].splitlines()
    return bool(frames) and ("/numpy/" in frames[0] or frames[0].endswith("in top_k"))


def test_ops_without_memory_for_threads():
    run("""
        x = dg.tensor(np.random.default_rng(0).standard_normal((300, 300), np.float32))
        results = [starved(spare << 20, lambda: x @ x) for spare in (0, 1, 2, 4, 8, 12, 20, 60)]
        assert results[-1] is not None
        right = (x @ x).numpy()
        assert tasks() >= 4, "with memory again, all threads are there"
        for result in results:
            assert result is None or (result.numpy() == right).all()
        assert starved(2 << 20, lambda: x + x) is not None, "the threads are there, and are kept"
    """)


def test_the_first_op_of_another_thread():
    run("""
        dg.set_num_threads(3)
        x = dg.tensor(np.ones((300, 300), np.float32))
        go, done = threading.Event(), threading.Event()
        results = []

        def work():
            go.wait()
            results.append(starved(1 << 20, lambda: x + x))
            done.set()
            results.append(x + x)

        thread = threading.Thread(target=work)
        thread.start()
        go.set()
        thread.join()
        assert results[0] is None or (results[0].numpy() == 2).all()
        assert (results[1].numpy() == 2).all()
    """)


def test_more_threads_than_fit():
    run("""
        starved(30 << 20, lambda: dg.set_num_threads(64))
        x = dg.tensor(np.ones((3000, 300), np.float32))
        assert starved(8 << 20, lambda: x + x) is not None
        assert ((x + x).numpy() == 2).all()
        assert tasks() >= 64
        dg.set_num_threads(2)
        assert ((x + x).numpy() == 2).all()
    """)


def test_small_ops_keep_the_threads():
    """libgomp would end the threads that a region leaves out, and start them again for the next one."""
    run("""
        def threads():
            return set(os.listdir("/proc/self/task"))

        large, small = dg.tensor(np.ones((4000, 300), np.float32)), dg.tensor(np.ones((300, 300), np.float32))
        large + large
        first = threads()
        for _ in range(5):
            small + small
            large + large
        assert threads() == first
    """)


def test_training_and_translation():
    run("""
        model = dg.Transformer(dg.TransformerConfig(
            vocab_size=400, d_model=64, num_heads=4, d_ff=128, num_encoder_layers=2, num_decoder_layers=2))
        tokenizer = dg.Tokenizer.train(["a b c d e f g h", "x y z"] * 20, 64)
        optimizer = dg.optim.AdamW(model, 1e-3)
        batch = [[7, 8, 9] * 30] * 20

        def step():
            model.loss(batch, batch).backward()
            optimizer.step()

        translator = dg.Translator(model, tokenizer)

        def translate():
            return translator(["a b c", "d e f"] * 4, max_length=5)

        translate()  # starts its thread: with no memory for a new one's data, glibc ends the process

        for spare in (2 << 20, 3 << 20, 4 << 20, 6 << 20, 8 << 20, 12 << 20):
            starved(spare, translate)
            starved(spare, step)
        optimizer.zero_grad()
        step()
        assert len(translate()) == 8
        assert np.isfinite(model.parameters()[0].numpy()).all()
    """)


def test_the_threads_of_the_tokenizers_library(tmp_path):
    """It fails for the rest of the process where it cannot start its threads: it must not try."""
    path = tmp_path / "tokenizer.json"
    dg.Tokenizer.train(["a b c d e f g h", "x y z"] * 20, 64).save(path)
    run(
        """
        tokenizer = dg.Tokenizer.load(os.environ["TOKENIZER"])
        texts = ["a b c", "x y ü"]
        ids = [starved(spare, lambda: tokenizer.encode_batch(texts)) for spare in (0, 1 << 20, 4 << 20)]
        assert starved(0, lambda: dg.Tokenizer.train(texts, 64)) is None
        right = [tokenizer.encode(text) for text in texts]
        assert all(got is None or got == right for got in ids)
        assert ids[-1] is not None
        assert tokenizer.encode_batch(["d e f", "a b c"])[1] == right[0]
        """,
        RAYON_NUM_THREADS="5",
        TOKENIZER=str(path),
    )
