"""The Transformer against a float64 reference of the whole model, its config, and its folder."""

import dataclasses
import json
from types import SimpleNamespace

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman import _core
from dragoman.json_file import shown
from safetensors.numpy import load_file, save_file

SRC = [[5, 6, 7], [8], [], [9, 10, 11, 12, 4]]
TGT = [[4, 5], [6, 7, 8, 9], [10], []]
FED = [[1, *ids] for ids in TGT]


def small_config(**overrides):
    sizes = {"vocab_size": 13, "d_model": 12, "num_heads": 3, "d_ff": 20}
    depths = {"num_encoder_layers": 2, "num_decoder_layers": 3}
    rates = {"dropout": 0.0, "embedding_dropout": 0.0}
    return dg.TransformerConfig(**(sizes | depths | rates | overrides))


class Reference:
    """The model in float64 NumPy, from the paper, with the weights of a state dict."""

    def __init__(self, model):
        self.config = model.config
        self.state = {k: v.astype(np.float64) for k, v in model.state_dict().items()}

    def side(self, name):
        """The fields of the stack, layer, embedding or table of that name."""
        own = self.config.encoder if name.startswith(("encoder", "src")) else self.config.decoder
        fields = vars(self.config) | (own or {})
        if ".layers." in name and fields["layers"]:
            fields |= fields["layers"][int(name.split(".")[2]) % len(fields["layers"])]
        return SimpleNamespace(**fields)

    def linear(self, x, name):
        return reference.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, x, name):
        eps = self.side(name).norm_eps
        if self.side(name).norm == "rms":
            return reference.rms_norm(x, self.state[f"{name}.weight"], eps)
        return reference.layer_norm(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    def attention(self, x, memory, name, causal=False):
        config = self.side(name)
        heads, size = config.num_heads, config.head_dim or config.d_model // config.num_heads
        kv_heads = config.kv_heads or heads
        q, k, v = (
            self.linear(rows, f"{name}.{kind}_proj").reshape(len(rows), count, size)
            for kind, rows, count in (("q", x, heads), ("k", memory, kv_heads), ("v", memory, kv_heads))
        )
        if config.qk_norm == "rms":
            q, k = (
                reference.rms_norm(rows, self.state[f"{name}.{kind}_norm.weight"], config.norm_eps)
                for kind, rows in (("q", q), ("k", k))
            )
        options = {"scale": config.attention_scale}
        if "self_attention" in name:
            q, k = self.turned(q, config), self.turned(k, config)
            options |= {"causal": causal, "window": config.window, **self.by_distance(name, causal)}
        out, _ = reference.attention(q, k, v, [len(x)], [len(memory)], **options)
        return self.linear(out.reshape(len(x), heads * size), f"{name}.out_proj")

    def turned(self, x, config):
        if config.positions != "rotary":
            return x
        pairs = (config.rotary_features or x.shape[2]) // 2
        factor = 1.0 if config.rotary_scaling is None else config.rotary_scaling["factor"]  # of the type "linear"
        angles = np.arange(len(x))[:, None] / factor * config.rotary_base ** (-np.arange(pairs) / max(pairs, 1))
        return reference.rotary(x, angles)

    def by_distance(self, name, causal):
        config, positions = self.side(name), f"{name}.positions"
        if config.positions == "alibi":
            return {"alibi_slopes": dg.nn.attention_positions.alibi_slopes(config.num_heads).astype(np.float64)}
        if config.positions == "shaw":
            return {f"relative_{kind}": self.state[f"{positions}.{kind}"] for kind in ("keys", "values")}
        if config.positions == "relative":  # one table for the layers of a stack with as many heads
            tables = [v for k, v in self.state.items() if k.startswith(name[:7]) and k.endswith("positions.weight")]
            (table,) = [table for table in tables if table.shape[1] == config.num_heads]
            return {"relative_bias": table, "bidirectional": not causal, "max_distance": config.position_distance}
        return {}

    def feed_forward(self, x, name):
        config, hidden = self.side(name), self.linear(x, f"{name}.linear1")
        if config.gated:
            hidden = reference.gate(self.linear(x, f"{name}.gate"), hidden, config.activation)
        else:
            hidden = reference.activation(hidden, config.activation)
        return self.linear(hidden, f"{name}.linear2")

    def sublayer(self, x, norm, function):
        config, (layer, place) = self.side(norm), norm.rsplit(".norm", 1)
        y = function(self.norm(x, norm) if config.norm_first else x)
        if config.sandwich_norm:
            y = self.norm(y, f"{layer}.output_norms.{int(place) - 1}")
        if config.residual == "concat":
            x = self.linear(np.hstack([y, x]), f"{layer}.residual_projections.{int(place) - 1}")
        else:
            x = x + y
        return x if config.norm_first else self.norm(x, norm)

    def embed(self, ids, name, norm, positions):
        config = self.side(norm)
        if config.positions == "learned":
            offset = config.position_offset
            table = self.state[f"{positions}.weight"][offset : offset + len(ids)]
        elif config.positions == "sinusoidal":
            offset, half = config.position_offset, config.d_model // 2
            table = reference.sinusoidal_positions(offset + len(ids), config.d_model)[offset:]
            if config.position_layout == "halves":
                table = np.concatenate([table[:, 0::2], table[:, 1::2]], 1)
            elif config.position_layout == "fairseq":
                angles = (offset + np.arange(len(ids)))[:, None] * np.exp(-np.arange(half) * np.log(10000) / (half - 1))
                table = np.concatenate([np.sin(angles), np.cos(angles)], 1)
        else:
            table = 0.0
        scale = config.d_model**0.5 if config.scale_embeddings else 1.0
        x = self.state[f"{name}.weight"][np.array(ids, int)].reshape(-1, config.d_model) * scale + table
        return self.norm(x, f"{norm}.norm") if config.embedding_norm else x

    def stack(self, x, name, depth, memory=None):
        for i in range(depth):
            layer = f"{name}.layers.{i}"
            x = self.sublayer(
                x,
                f"{layer}.norm1",
                lambda x, layer=layer: self.attention(x, x, f"{layer}.self_attention", memory is not None),
            )
            if memory is not None:
                x = self.sublayer(
                    x,
                    f"{layer}.norm2",
                    lambda x, layer=layer: self.attention(x, memory, f"{layer}.cross_attention"),
                )
            norm = f"{layer}.norm{2 if memory is None else 3}"
            x = self.sublayer(x, norm, lambda x, layer=layer: self.feed_forward(x, f"{layer}.feed_forward"))
        config = self.side(name)
        ends_in_norm = config.norm_first if config.final_norm is None else config.final_norm
        return self.norm(x, f"{name}.norm") if ends_in_norm else x

    def logits(self, src, tgt):
        config = self.config
        source = "src_embedding"
        target = source if config.tie_embeddings in ("three", "inputs") else "tgt_embedding"
        memory = self.embed(src, source, "src_embedding", "src_positions")
        memory = self.stack(memory, "encoder", config.num_encoder_layers)
        x = self.embed(tgt, target, "tgt_embedding", "tgt_positions")
        x = self.stack(x, "decoder", config.num_decoder_layers, memory)
        tied = config.tie_embeddings in ("two", "three")
        weight = self.state[f"{target}.weight" if tied else "output.weight"]
        return reference.linear(x * config.output_scale, weight, self.state.get("output.bias"))

    def loss(self, src_batch, tgt_batch, smoothing):
        total, count = 0.0, 0
        for src, tgt in zip(src_batch, tgt_batch, strict=True):
            start, end = self.config.start_id, self.config.eos_id
            start = [1] if start is None else [start] if isinstance(start, int) else list(start)
            targets = [*tgt, end if isinstance(end, int) else end[0]]
            logits = self.logits(src, [*start, *tgt])[len(start) - 1 :]
            log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            picked = log_probs[np.arange(len(targets)), targets]
            total -= ((1 - smoothing) * picked + smoothing * log_probs.mean(1)).sum()
            count += len(targets)
        return total / count


CONFIGS = [
    {},
    {"norm_first": True, "activation": "gelu", "positions": "learned", "max_length": 9},
    {"tie_embeddings": "two", "tgt_vocab_size": 17, "output_bias": True, "final_norm": True},
    {"tie_embeddings": "none", "scale_embeddings": False, "norm_first": True, "final_norm": False},
    {"norm": "rms", "gated": True, "activation": "silu", "feed_forward_bias": False, "norm_first": True},
    {"sandwich_norm": True, "norm_first": True, "activation": "gelu_tanh", "gated": True, "embedding_norm": True},
    {"residual": "concat", "activation": "tanh", "embedding_norm": True, "norm": "rms"},
    {"residual": "concat", "norm_first": True, "sandwich_norm": True, "activation": "sigmoid"},
    {"positions": "relative", "position_buckets": 5, "position_distance": 4, "attention_scale": 1.0},
    {"positions": "alibi", "kv_heads": 1, "attention_bias": "qv"},
    {"positions": "shaw", "position_distance": 2, "head_dim": 5, "norm_first": True},
    {"positions": "rotary", "rotary_features": 2, "rotary_base": 50.0, "kv_heads": 1, "qk_norm": "rms"},
    {"positions": "rotary", "head_dim": 6, "attention_bias": "", "norm_first": True, "window": 2},
    {"positions": "none", "window": 1, "qk_norm": "rms"},
    {"positions": "learned", "position_offset": 2, "max_length": 6},
    {"position_layout": "halves", "window": 0},
    {"tie_embeddings": "two", "encoder": {"d_model": 8, "num_heads": 2, "d_ff": 9, "kv_heads": 1}},
    {
        "tie_embeddings": "none",
        "tgt_vocab_size": 17,
        "encoder": {"d_model": 10, "num_heads": 5, "norm_first": True, "positions": "alibi", "norm": "rms"},
        "decoder": {"d_model": 8, "num_heads": 4, "kv_heads": 2, "head_dim": 3, "gated": True, "embedding_norm": True},
    },
    {"encoder": {"num_heads": 2, "positions": "learned", "max_length": 7}, "decoder": {"positions": "rotary"}},
    {"position_layout": "fairseq", "position_offset": 2},
    {"position_layout": "halves", "position_offset": 1, "output_scale": 0.3, "output_bias": True},
    {"layers": [{"window": 1, "num_heads": 2, "d_ff": 7, "positions": "alibi"}, {"gated": True, "attention_bias": ""}]},
    {
        "positions": "rotary",
        "rotary_scaling": {"type": "linear", "factor": 2.5},
        "qk_norm": "rms",
        "norm_eps": 1e-2,
        "decoder": {"layers": [{}, {"positions": "none", "activation": "silu"}, {"kv_heads": 1}]},
    },
    {
        "positions": "relative",
        "position_buckets": 6,
        "position_distance": 5,
        "layers": [{}, {"num_heads": 2}],
        "encoder": {"layers": [{"positions": "none"}, {}]},
    },
    {"tie_embeddings": "inputs", "output_bias": True, "start_id": 0, "pad_id": 0},
    {"start_id": [2, 1, 2], "eos_id": (2, 5), "pad_id": None, "unk_id": None, "bos_id": None},
]


def perturbed(model, rng):
    """No value of a trained model is exactly 0 or 1."""
    model.load_state_dict(
        {k: v + rng.normal(0, 0.1, v.shape).astype(np.float32) for k, v in model.state_dict().items()}
    )
    return model


@pytest.mark.parametrize("overrides", CONFIGS)
def test_logits_against_the_reference(rng, overrides):
    model = perturbed(dg.Transformer(small_config(**overrides)), rng)
    truth = Reference(model)
    expected = np.concatenate([truth.logits(src, tgt) for src, tgt in zip(SRC, FED, strict=True)])
    actual = model.logits(SRC, FED)
    assert actual.dtype == np.float32 and actual.shape == (11, model.config.output_size)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("overrides", CONFIGS)
def test_loss_and_gradients_against_the_reference(rng, overrides):
    model = perturbed(dg.Transformer(small_config(**overrides)), rng)
    truth = Reference(model)
    loss = model.loss(SRC, TGT, label_smoothing=0.2)
    assert loss.item() == pytest.approx(truth.loss(SRC, TGT, 0.2), rel=1e-5)
    loss.backward()
    largest = max(np.abs(p.grad.numpy()).max() for p in model.parameters())
    for name, parameter in model.named_parameters():
        values = truth.state[name].reshape(-1)
        for index in rng.choice(values.size, min(3, values.size), replace=False):
            before, step = values[index], 1e-5
            losses = []
            for shifted in (before + step, before - step):
                values[index] = shifted
                losses.append(truth.loss(SRC, TGT, 0.2))
            values[index] = before
            expected = (losses[0] - losses[1]) / (2 * step)
            assert abs(parameter.grad.numpy().reshape(-1)[index] - expected) < 2e-5 * largest, name


def test_a_sentence_does_not_notice_its_batch():
    model = dg.Transformer(small_config())
    together = model.logits(SRC, FED)
    alone = np.concatenate([model.logits([src], [tgt]) for src, tgt in zip(SRC, FED, strict=True)])
    np.testing.assert_array_equal(together, alone)


def test_num_targets_adds_up_batches():
    model = dg.Transformer(small_config())
    whole = model.loss(SRC, TGT).item()
    parts = [
        model.loss(SRC[:2], TGT[:2], num_targets=11).item(),
        model.loss(SRC[2:], TGT[2:], num_targets=11).item(),
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-6)


def test_dropout_is_in_the_loss_and_never_in_logits():
    model = dg.Transformer(small_config().with_dropout(0.4))
    assert model.loss(SRC, TGT).item() != model.loss(SRC, TGT).item()
    np.testing.assert_array_equal(model.logits(SRC, FED), model.logits(SRC, FED))
    assert model.training
    model.eval()
    assert model.loss(SRC, TGT).item() == model.loss(SRC, TGT).item()


def test_sinusoidal_positions_have_no_end():
    model = dg.Transformer(small_config(max_length=4))
    assert model.logits([[5] * 300], [[6] * 150]).shape == (150, 13)


def test_empty_batches():
    model = dg.Transformer(small_config())
    assert model.logits([], []).shape == (0, 13)
    assert model.logits([[]], [[]]).shape == (0, 13)
    with pytest.raises(ValueError, match="at least one sentence"):
        model.loss([], [])


@pytest.mark.parametrize(
    ("src", "tgt", "error", "message"),
    [
        ([[5], [6, 13]], [[4], [4]], ValueError, r"src_batch\[1\]\[1\] must lie in \[0, 13\), .*got 13"),
        ([[5], [6]], [[4], [4, -1]], ValueError, r"tgt_batch\[1\]\[1\] must lie in .*got -1"),
        ([[5.0]], [[4]], TypeError, r"src_batch\[0\]\[0\] must be an int, got float 5.0"),
        ([[5]], [[None]], TypeError, r"tgt_batch\[0\]\[0\] must be an int, got NoneType"),
        ([5], [[4]], TypeError, r"src_batch\[0\] must be a list of ids, got int"),
        (["five"], [[4]], TypeError, r"src_batch\[0\] must be a list of ids, got str"),
        ([[2**70]], [[4]], ValueError, r"src_batch\[0\]\[0\] must lie in"),
        ([[5], [6]], [[4]], ValueError, "tgt_batch must have 2 sentences, as src_batch, got 1"),
    ],
)
def test_a_bad_id_is_named_by_its_place(src, tgt, error, message):
    model = dg.Transformer(small_config())
    for method in (model.logits, model.loss):
        with pytest.raises(error, match=f"{method.__name__}: {message}"):
            method(src, tgt)


def test_ids_may_be_arrays():
    model = dg.Transformer(small_config())
    arrays = [np.array(ids, np.uint16) for ids in SRC], [np.array(ids) for ids in FED]
    np.testing.assert_array_equal(model.logits(*arrays), model.logits(SRC, FED))


def test_attention_weights():
    model = dg.Transformer(small_config())
    weights = model.attention_weights([5, 6, 7, 8], [1, 9])
    assert {kind: [w.shape for w in layers] for kind, layers in weights.items()} == {
        "encoder": [(3, 4, 4)] * 2,
        "decoder": [(3, 2, 2)] * 3,
        "cross": [(3, 2, 4)] * 3,
    }
    for layers in weights.values():
        for layer in layers:
            np.testing.assert_allclose(layer.sum(-1), 1, atol=1e-6)
    assert all((layer[:, 0, 1] == 0).all() for layer in weights["decoder"])


@pytest.mark.parametrize(("tied", "count"), [("none", 3), ("two", 2), ("inputs", 2), ("three", 1)])
def test_tied_embeddings_are_one_parameter(tied, count):
    model = dg.Transformer(small_config(tie_embeddings=tied))
    weights = {id(module.weight) for module in (model.src_embedding, model.tgt_embedding, model.output)}
    assert len(weights) == count
    assert sum(p.shape == (13, 12) for p in model.parameters()) == count


@pytest.mark.parametrize("overrides", CONFIGS)
def test_a_saved_model_loads_as_it_was(tmp_path, device, overrides):
    model = dg.Transformer(small_config(**overrides))
    model.save(tmp_path / "new" / "folder")
    state = dg.random.get_state()
    loaded = dg.load(tmp_path / "new" / "folder")
    assert dg.random.get_state() == state, "loading draws no random numbers"
    assert loaded.config == model.config and not loaded.training
    np.testing.assert_array_equal(loaded.to(device).logits(SRC, FED), model.logits(SRC, FED))
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (lambda f: (f / "config.json").write_text("{"), "config.json", "Expecting"),
        (lambda f: (f / "config.json").write_text("[1]"), "config.json", "must hold an object, got list"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json", "decode"),
        (lambda f: (f / "config.json").write_text("[" * 100000), "config.json", ""),
        (lambda f: edit_config(f, dmodel=3), "config.json", "unknown field 'dmodel'; did you mean d_model?"),
        (lambda f: edit_config(f, d_ff="20"), "config.json", "d_ff must be an int of at least 1, got '20'"),
        (lambda f: edit_config(f, format=2), "config.json", "format must be 1, got 2"),
        (
            lambda f: edit_config(f, num_encoder_layers=10**9),
            "config.json",
            "does not fit model.safetensors: a parameter of shape (12,",
        ),
        (
            lambda f: edit_config(f, num_encoder_layers=3),
            "model.safetensors",
            "missing parameters: encoder.layers.2.self_attention.q_proj.weight",
        ),
        (
            lambda f: edit_config(f, vocab_size=14),
            "model.safetensors",
            "src_embedding.weight must have shape (14, 12), got (13, 12)",
        ),
        (
            lambda f: edit_config(f, vocab_size=10**12),
            "config.json",
            "vocab_size must be below 2^31",
        ),
        (
            lambda f: edit_config(f, vocab_size=2**31 - 1),
            "config.json",
            "a parameter of shape (2147483647, 12) is more than",
        ),
        (
            lambda f: edit_config(f, d_ff=10**9),
            "config.json",
            "a parameter of shape (1000000000, 12) is more than",
        ),
        (
            lambda f: edit_config(f, d_ff=24),
            "model.safetensors",
            "feed_forward.linear1.weight must have shape (24, 12), got (20, 12)",
        ),
        (
            lambda f: edit_config(f, norm_first=True),
            "model.safetensors",
            "missing parameters: encoder.norm.weight",
        ),
        (
            lambda f: edit_weights(f, lambda s: s.pop("decoder.layers.0.norm1.bias")),
            "model.safetensors",
            "missing",
        ),
        (
            lambda f: edit_weights(f, lambda s: s.update({"extra": np.zeros(1, np.float32)})),
            "model.safetensors",
            "unexpected parameters: extra",
        ),
        (
            lambda f: edit_weights(f, lambda s: s.update({"src_embedding.weight": np.zeros((13, 12))})),
            "model.safetensors",
            "src_embedding.weight must be float32, float16 or bfloat16, got float64",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors", ""),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 100), "model.safetensors", ""),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-7]),
            "model.safetensors",
            "",
        ),
    ],
)
def test_a_damaged_folder_is_refused_by_file_and_field(tmp_path, damage, file, message):
    dg.Transformer(small_config()).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError) as caught:
        dg.load(tmp_path)
    assert str(tmp_path / file) in str(caught.value) and message in str(caught.value)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        dg.load(tmp_path)
    dg.Transformer(small_config()).save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        dg.load(tmp_path)


@pytest.mark.parametrize(
    ("preset", "layers", "d_model", "d_ff", "heads"),
    [
        ("tiny", 4, 128, 256, 4),
        ("small", 4, 256, 1024, 4),
        ("base", 6, 512, 2048, 8),
        ("big", 6, 1024, 4096, 16),
    ],
)
def test_presets(preset, layers, d_model, d_ff, heads):
    config = getattr(dg.TransformerConfig, preset)()
    assert (config.num_encoder_layers, config.num_decoder_layers) == (layers, layers)
    assert (config.d_model, config.d_ff, config.num_heads) == (d_model, d_ff, heads)
    assert config.tie_embeddings == "three" and config.activation == "relu"
    assert config.norm_first == config.ends_in_norm == (preset == "tiny")
    assert dg.TransformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    changed = getattr(dg.TransformerConfig, preset)(vocab_size=77, dropout=0.05)
    assert (changed.vocab_size, changed.dropout, changed.d_model) == (77, 0.05, d_model)


def test_the_base_model_has_the_size_the_paper_gives():
    config = dg.TransformerConfig.base(vocab_size=37000)
    with dg.nn.init.skip_init():
        assert dg.Transformer(config).num_parameters() == pytest.approx(65e6, rel=0.03)


def test_with_dropout_sets_every_rate():
    config = dg.TransformerConfig.tiny().with_dropout(0.25)
    rates = (config.dropout, config.attention_dropout, config.activation_dropout, config.embedding_dropout)
    assert rates == (0.25,) * 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 0),
        ("vocab_size", 3),
        ("d_model", 12.0),
        ("num_heads", 5),
        ("num_heads", True),
        ("num_decoder_layers", 0),
        ("tgt_vocab_size", 14),
        ("tgt_vocab_size", -1),
        ("encoder", 3),
        ("decoder", ["d_model"]),
        ("start_id", 13),
        ("start_id", []),
        ("eos_id", (2, 2)),
        ("eos_id", None),
        ("norm_first", 1),
        ("final_norm", "yes"),
        ("activation", "swish"),
        ("norm_eps", 0),
        ("norm_eps", float("nan")),
        ("norm_eps", 10**400),
        ("positions", None),
        ("max_source_length", 0),
        ("tie_embeddings", "four"),
        ("dropout", 1.0),
        ("attention_dropout", float("nan")),
        ("embedding_dropout", -0.1),
        ("eos_id", 13),
        ("unk_id", -1),
        ("bos_id", False),
    ],
)
def test_a_bad_field_is_named(field, value):
    with pytest.raises(ValueError, match=r"TransformerConfig: \w+ must be .*, got ") as caught:
        small_config(**{field: value})
    if (field, value) != ("vocab_size", 3):  # a vocabulary that small shows in the last special id
        assert f"{field} must be" in str(caught.value) and f"got {shown(value)}" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": {"d_modl": 8}}, "encoder must hold only fields .* got 'd_modl'; did you mean d_model[?]"),
        ({"decoder": {"vocab_size": 8}}, "decoder must hold only fields .* got 'vocab_size'"),
        ({"decoder": {3: 8}}, "decoder must hold only fields .* got 3"),
        ({"encoder": {"num_heads": 5}}, "encoder: num_heads must be a divisor of d_model = 12, got 5"),
        ({"decoder": {"encoder": {}}}, "decoder must hold only fields .* got 'encoder'"),
        ({"encoder": {"d_model": 6}}, 'tie_embeddings must be "none" or "two" .* d_model 6 and 12, got \'three\''),
        ({"layers": [{"windw": 3}]}, "layers must hold only fields .* got 'windw'; did you mean window[?]"),
        ({"layers": [{}, {"d_model": 6}]}, "layers must hold only fields .* got 'd_model'"),
        ({"layers": [{"num_heads": 5}]}, "layers: num_heads must be a divisor of d_model = 12, got 5"),
        ({"layers": []}, "layers must be None or a list of 1 to 1,000 dicts of fields, got "),
        ({"layers": [{"positions": "learned"}]}, "layers must be without sinusoidal and learned positions"),
        ({"encoder": {"layers": [{"kv_heads": 2}]}}, "encoder: layers: kv_heads must be a divisor of num_heads = 3"),
        ({"output_scale": 0}, "output_scale must be a number above 0, got 0"),
        ({"rotary_scaling": {"type": "ntk", "factor": 0.5}}, "rotary_scaling must have a number factor of at least 1"),
        ({"rotary_base": 0.5, "rotary_scaling": {"type": "ntk", "factor": 2}}, "rotary_base must be above 1 with"),
        ({"bos_id": None}, "start_id must be given where bos_id is None, got None"),
        ({"encoder": {"positions": "learned", "max_length": 4}, "max_source_length": 5}, "max_source_length .* = 4"),
    ],
    ids=str,
)
def test_what_the_sides_and_special_ids_refuse(fields, message):
    with pytest.raises(ValueError, match=f"TransformerConfig: {message}"):
        small_config(**fields)


def test_a_config_of_an_older_version_has_the_defaults():
    config = small_config()
    required = {field.name for field in dataclasses.fields(config) if field.default is dataclasses.MISSING}
    given = required | {"format", "dropout", "embedding_dropout"}
    assert dg.TransformerConfig.from_dict({k: v for k, v in config.to_dict().items() if k in given}) == config


def test_the_sides_of_a_config():
    config = small_config(encoder={"d_model": np.int64(8), "num_heads": 2, "dropout": 0.3}, tie_embeddings="two")
    assert (config.encoder_side.d_model, config.decoder_side.d_model, config.encoder_side.dropout) == (8, 12, 0.3)
    assert config.with_dropout(0.0).encoder_side.dropout == 0.0
    assert dg.TransformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert isinstance(hash(config), int)
    model = dg.Transformer(config)
    assert model.decoder.layers[0].cross_attention.k_proj.weight.shape == (12, 8)
    assert {name for name, _ in model.named_parameters()} == {
        name for name, _ in dg.Transformer(small_config(tie_embeddings="two")).named_parameters()
    }


def test_config_is_frozen_and_closed():
    config = small_config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.d_model = 3
    with pytest.raises(ValueError, match=r"unknown field .d_modl.; did you mean d_model"):
        dg.TransformerConfig.tiny(d_modl=3)
    values = config.to_dict()
    del values["d_ff"]
    with pytest.raises(ValueError, match="d_ff must be given"):
        dg.TransformerConfig.from_dict(values)


def test_decode_reads_a_memory_of_spare_rows():
    model = dg.Transformer(small_config()).eval()
    ids = np.array([5, 6, 7, 8], np.int32)
    exact, spare = _core.Sequences([3, 1]), _core.Sequences([3, 1], 6)
    memory = model.encode(ids, exact)
    spare_memory = model.encode(np.concatenate([ids, [0, 0]]), spare)
    np.testing.assert_array_equal(spare_memory.numpy()[:4], memory)
    assert not spare_memory.numpy()[4:].any()
    target = _core.Sequences([1, 2])
    hidden = model.decode([1, 1, 9], target, memory, exact)
    np.testing.assert_array_equal(model.decode([1, 1, 9], target, spare_memory, spare), hidden)
