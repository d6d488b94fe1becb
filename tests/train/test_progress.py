"""What a run shows: a bar on a terminal and in a notebook, lines elsewhere, and nothing that could end it."""

import io
import os
import subprocess
import sys
import types

import dragoman as dg
import pytest
from dragoman.train import Trainer
from dragoman.train.progress import Progress, tell


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    def start():  # in the test itself: pytest sets standard error before it
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return start


def states(terminal):
    """What the bar showed, one after the other."""
    return [text for text in terminal.getvalue().replace("\n", "\r").split("\r") if "%|" in text]


def test_the_bar_shows_loss_and_speed_from_the_first_step_and_ends_at_zero(terminal, pairs, one_thread):
    pytest.importorskip("tqdm")
    model = dg.Transformer(dg.TransformerConfig.tiny(vocab_size=20, d_model=16, num_heads=2, d_ff=16))
    shown = terminal()
    Trainer(model, max_steps=3, warmup=1, batch_tokens=100, log_interval=1000).fit(pairs)
    *_, last = states(shown)
    assert "3/3, loss " in last and " tokens/s, 0:00 left" in last


def test_the_bar_smooths(terminal):
    pytest.importorskip("tqdm")
    shown = terminal()
    progress = Progress(None, 0, 4)
    progress._bar.mininterval = 0
    for loss, tokens, seconds, left in ((4.0, 100, 1.0, 61.0), (5.0, 200, 1.0, 2.0), (float("nan"), 200, 1.0, None)):
        progress.advance(loss, tokens, seconds, left)
    progress.close()
    text = " ".join(states(shown))
    for part in (
        "loss 4.000, 100 tokens/s, 1:01 left",
        "loss 4.100, 110 tokens/s, 0:02 left",
        "loss 4.100, 119 tokens/s",
    ):
        assert part in text


def test_lines_where_there_is_no_terminal(capsys):
    progress = Progress(None, 0, 9)
    progress.advance(1.0, 1, 1.0, 8.0)
    progress.record({"step": 1}, "loss 1")
    progress.record({"step": 2}, "loss 2")  # too early for another line
    progress.close()
    assert capsys.readouterr().err == "step 1/9: loss 1\n"


def test_a_notebook_has_a_bar(monkeypatch, capsys):
    tqdm_auto = pytest.importorskip("tqdm.auto")
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    progress = Progress(None, 0, 2)
    assert isinstance(progress._bar, tqdm_auto.tqdm)
    progress.close()

    def without_widgets(**options):
        raise ImportError("IProgress not found")

    monkeypatch.setattr(tqdm_auto, "tqdm", without_widgets)
    assert Progress(None, 0, 2)._bar is None


def test_a_line_that_nobody_can_read_ends_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    tell("lost")
    Progress(None, 0, 2).event({"step": 1}, "lost")
    program = "from dragoman.train.progress import tell\nfor _ in range(3): tell('x')\nprint('end')"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"end\n")
