"""attention_page: what a browser without a network shows."""

import base64
import json
import re
import shutil
import subprocess
import zlib

import dragoman as dg
import numpy as np
import pytest
from dragoman.cli import main
from dragoman.plot import attention_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HEAD, SRC, TGT = 1, ["▁a", "<b>", "</script>"], ["<s>", "▁ü&"]


@pytest.fixture
def weights(rng):
    def softmax(*shape):
        powers = np.exp(2 * rng.standard_normal(shape))
        return powers / powers.sum(-1, keepdims=True)

    return {
        "encoder": [softmax(4, 3, 3) for _ in range(2)],
        "decoder": [softmax(4, 2, 2) for _ in range(2)],
        "cross": [softmax(4, 2, 3) for _ in range(2)],
    }


def test_the_page_holds_the_weights(weights):
    html = attention_page(weights, SRC, TGT)
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)|@import|url\(", html), "it needs no network"
    data = json.loads(re.search(r'id="page">(.*?)</script>', html, re.DOTALL)[1])
    values = np.frombuffer(zlib.decompress(base64.b64decode(data["weights"])), np.uint8)
    for view, (kind, layers) in zip(data["views"], weights.items(), strict=True):
        truth = np.stack(layers)
        assert (view["layers"], view["heads"]) == truth.shape[:2]
        held = values[view["offset"] :][: truth.size].reshape(truth.shape)
        np.testing.assert_allclose((held / 255) ** 2, truth, atol=0.005, err_msg=kind)
    assert [view["keys"] for view in data["views"]] == [SRC, TGT, SRC]


def test_forty_tokens_of_a_base_model_fit_in_300_kilobytes(rng):
    model = dg.Transformer(dg.TransformerConfig.base(vocab_size=90))
    weights = model.attention_weights(list(range(4, 44)), [1, *range(5, 45)])
    source, target = [f"token{i}" for i in range(40)], [f"wort{i}" for i in range(41)]
    assert 100_000 < len(attention_page(weights, source, target).encode()) < 300_000
    for spread in (0.5, 1.0, 2.0, 4.0):  # of trained models, whose weights cannot be packed as well
        assert len(attention_page(_noisy(weights, spread, rng), source, target).encode()) < 300_000


def _noisy(weights, spread, rng):
    """Weights at random where there are any."""

    def drawn(layer):
        powers = np.where(layer > 0, np.exp(spread * rng.standard_normal(layer.shape)), 0)
        return powers / powers.sum(-1, keepdims=True)

    return {kind: [drawn(layer) for layer in layers] for kind, layers in weights.items()}


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_who_looks_where(weights, tmp_path):
    """Points at a token of each side of the view from the decoder to the encoder, and reads what the page says."""
    path = tmp_path / "page.html"
    attention_page(weights, SRC, TGT, path)
    script = """<script>
      const over = (id, i) => document.getElementById(id).children[i].dispatchEvent(new Event("mouseenter"));
      const text = id => [...document.getElementById(id).children].map(row => row.textContent);
      const wait = setInterval(() => {
        if (!document.body.dataset.ready) return;
        clearInterval(wait);
        document.getElementById("views").children[2].click();
        const head = document.getElementById("head");
        head.value = 1;
        head.dispatchEvent(new Event("change"));
        const result = [];
        over("queries", 1);
        result.push(text("queries"), text("keys"));
        over("keys", 2);
        result.push(text("queries"), text("keys"));
        document.body.dataset.result = JSON.stringify(result);
      }, 10);
    </script>"""
    path.write_text(path.read_text().replace("</html>", script + "</html>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    dom = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120).stdout
    result = json.loads(
        re.search(r'data-result="(.*?)"', dom)[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">")
        .replace("&amp;", "&")
    )  # fmt: skip
    head = weights["cross"][1][HEAD]

    def named(names, shares):
        return [f"{name} {share:.0f} %" if share >= 0.5 else name for name, share in zip(names, shares, strict=True)]

    def near(actual, names, shares):
        for got, expected in zip(actual, named(names, 100 * shares), strict=True):
            numbers = [int(found[-1]) if (found := re.findall(r" (\d+) %$", text)) else 0 for text in (got, expected)]
            assert abs(numbers[0] - numbers[1]) <= 1
            assert re.sub(r" \d+ %$", "", got) == re.sub(r" \d+ %$", "", expected)

    assert result[0] == TGT
    near(result[1], SRC, head[1])
    near(result[2], TGT, head[:, 2])
    assert result[3] == SRC


def test_explain_writes_the_page(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tokenizers")
    monkeypatch.chdir(tmp_path)
    tokenizer = dg.Tokenizer.train(["a child sees a boat", "ein Kind sieht ein Boot"] * 3, 300)
    model = dg.Transformer(dg.TransformerConfig.tiny(vocab_size=tokenizer.vocab_size))
    model.save("model")
    tokenizer.save("model/tokenizer.json")
    assert main(["explain", "model", "a boat", "--target", "ein Boot", "--threads", "1"]) == 0
    assert capsys.readouterr().out == "attention.html\n"
    data = json.loads(re.search(r'id="page">(.*?)</script>', (tmp_path / "attention.html").read_text(), re.DOTALL)[1])
    assert data["views"][2]["keys"][-1] == "</s>" and data["views"][2]["queries"][0] == "<s>"
    assert main(["explain", "model", "a boat", "--output", "page.html", "--threads", "1"]) == 0
    translation, name = capsys.readouterr().out.splitlines()
    assert name == "page.html" and (tmp_path / name).exists() and isinstance(translation, str)


def test_errors_name_the_argument(weights):
    with pytest.raises(TypeError, match=r"plot.attention_page: tgt_tokens must be a list of str, got None"):
        attention_page(weights, SRC)
    with pytest.raises(
        ValueError, match=r"weights\['encoder'\]\[0\] must have shape \(num_heads, 2, 2\), got \(4, 3, 3\)"
    ):
        attention_page(weights, SRC[:2], TGT)
    with pytest.raises(ValueError, match=r"weights must be one of encoder, decoder, cross, got 'self'"):
        attention_page({"self": weights["encoder"]}, SRC)
    with pytest.raises(ValueError, match=r"weights\['encoder'\]\[0\] must lie in \[0, 1\]"):
        attention_page({"encoder": [np.full((1, 3, 3), np.nan)]}, SRC)
    with pytest.raises(ValueError, match="weights must hold at least one kind of attention, got none"):
        attention_page({}, SRC)
