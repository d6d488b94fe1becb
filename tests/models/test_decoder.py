"""TextDecoder: logits, loss and gradients against float64 NumPy; searches and samples against logits without cache."""

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman.generate import generate, sample, score
from dragoman.models import DecoderConfig, TextDecoder
from gradcheck import numerical_gradient

BATCH = [[1, 5, 6, 7, 2], [1, 2], [1, 8, 4, 4, 9, 2]]


def model_of(seed=0, **fields):
    sizes = {"vocab_size": 11, "d_model": 6, "num_heads": 2, "d_ff": 8, "num_layers": 2, "max_length": 16}
    rates = {"dropout": 0.0, "embedding_dropout": 0.0}
    dg.manual_seed(seed)
    return TextDecoder(DecoderConfig(**(sizes | rates | fields)))


class Reference:
    """The model in float64 NumPy, post-norm or pre-norm, with the weights of a state dict."""

    def __init__(self, model):
        self.config = model.config
        self.state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}

    def linear(self, x, name):
        return reference.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, x, name):
        return reference.layer_norm(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], self.config.norm_eps)

    def attention(self, x, name):
        q, k, v = (self.linear(x, f"{name}.{kind}_proj").reshape(len(x), self.config.num_heads, -1) for kind in "qkv")
        out, _ = reference.attention(q, k, v, [len(x)], [len(x)], causal=True, score_cap=self.config.score_cap)
        return self.linear(out.reshape(x.shape), f"{name}.out_proj")

    def feed_forward(self, x, name):
        hidden = reference.activation(self.linear(x, f"{name}.linear1"), self.config.activation)
        return self.linear(hidden, f"{name}.linear2")

    def logits(self, ids):
        config = self.config
        x = self.state["embedding.weight"][ids] * (config.d_model**0.5 if config.scale_embeddings else 1.0)
        if config.positions == "learned":
            x = x + self.state["positions.weight"][: len(ids)]
        else:
            x = x + reference.sinusoidal_positions(len(ids), config.d_model)
        for i in range(config.num_layers):
            name = f"decoder.layers.{i}"
            for norm, part, place in (
                ("norm1", self.attention, "self_attention"),
                ("norm2", self.feed_forward, "feed_forward"),
            ):
                if config.norm_first:
                    x = x + part(self.norm(x, f"{name}.{norm}"), f"{name}.{place}")
                else:
                    x = self.norm(x + part(x, f"{name}.{place}"), f"{name}.{norm}")
        x = self.norm(x, "decoder.norm") if config.ends_in_norm else x
        weight = self.state["embedding.weight" if config.tie_embeddings else "output.weight"]
        logits, cap = reference.linear(x, weight, self.state.get("output.bias")), config.logit_cap
        return logits if cap is None else cap * np.tanh(logits / cap)


CASES = [
    {},
    {"norm_first": True, "activation": "gelu_tanh", "positions": "learned", "scale_embeddings": False},
    {"tie_embeddings": False, "output_bias": True},
    {"score_cap": 0.4, "logit_cap": 1.5},
]


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_logits_loss_and_gradients_are_those_of_the_formulas(fields):
    model = model_of(**fields)
    truth = Reference(model)
    np.testing.assert_allclose(model.logits(BATCH), np.concatenate([truth.logits(ids) for ids in BATCH]), atol=2e-5)
    predicted = np.array([id for ids in BATCH for id in ids[1:]])

    def loss():
        return reference.cross_entropy(np.concatenate([truth.logits(ids)[:-1] for ids in BATCH]), predicted, 0.1)

    value = model.loss(BATCH, label_smoothing=0.1)
    assert value.item() == pytest.approx(loss(), rel=1e-5)
    value.backward()
    for name, parameter in model.named_parameters():
        expected = numerical_gradient(loss, truth.state[name])
        np.testing.assert_allclose(parameter.grad.numpy(), expected, atol=3e-5, err_msg=name)


@pytest.mark.parametrize("fields", CASES, ids=str)
@pytest.mark.parametrize("beam", [1, 3])
def test_a_search_goes_on_from_each_text(fields, beam):
    """With a beam of every extension the search is the most probable continuation; a beam of 1 takes the best token."""
    model = model_of(3, **fields)
    prompts = [[1, 5, 6], [1], [1, 9, 9, 9, 4]]
    found = generate(model, prompts, beam=beam, max_length=4, length_penalty=0.0)
    for prompt, hypotheses in zip(prompts, found, strict=True):
        best = hypotheses[0]
        ids, total = list(best.ids), 0.0
        ended = [*ids, 2] if len(ids) < 4 else ids
        for place, token in enumerate(ended):
            row = model.logits([[*prompt, *ended[:place]]])[-1].astype(np.float64)
            log_probs = row - np.log(np.exp(row).sum())
            total += log_probs[token]
            if beam == 1:
                log_probs[[0, 1, 3]] = -np.inf
                assert token == log_probs.argmax()
        assert best.score == pytest.approx(total, abs=1e-4)
        alone = generate(model, [prompt], beam=beam, max_length=4, length_penalty=0.0)[0]
        assert [h.ids for h in alone] == [h.ids for h in hypotheses]


def test_by_default_a_text_ends_at_max_length():
    model = model_of(3, max_length=6)
    assert all(len(found[0].ids) <= 6 - 4 for found in generate(model, [[1, 5, 6, 7]]))
    with pytest.raises(
        ValueError,
        match="generate: a text to continue must have at most 5 tokens, one less than the config's max_length, got 7",
    ):
        generate(model, [[1, 5, 6, 7, 8, 9, 4]])


def test_samples_have_the_distribution_of_the_model():
    """Frequencies of 4,000 first tokens against the probabilities, which temperature, top_k and top_p change."""
    model = model_of(4)
    row = model.logits([[1, 5]])[-1].astype(np.float64)
    row[[0, 1, 3]] = -np.inf
    for options in ({}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.6}):
        probs = np.exp(row / options.get("temperature", 1.0))
        probs /= probs.sum()
        order = np.argsort(-probs)
        if "top_k" in options:
            probs[order[3:]] = 0
        if "top_p" in options:
            reached = np.searchsorted(np.cumsum(probs[order]), 0.6) + 1
            probs[order[reached:]] = 0
        probs /= probs.sum()
        drawn = sample(model, [[1, 5]] * 4000, max_length=1, seed=7, **options)
        counts = np.bincount([h.ids[0] if h.ids else 2 for h in drawn], minlength=11)
        assert not counts[probs == 0].any()
        np.testing.assert_allclose(counts / 4000, probs, atol=0.03)


def test_samples_are_repeated_by_their_seed_and_scored_by_the_model():
    model = model_of(4)
    prompts = [[1, 5], [1], [1, 7, 7]]
    first, second, other = (sample(model, prompts, max_length=6, seed=seed) for seed in (1, 1, 2))
    assert first == second and first != other
    assert sample(model, prompts[:2], max_length=6, seed=1) == first[:2]
    for prompt, drawn in zip(prompts, first, strict=True):
        ended = [*drawn.ids, 2] if len(drawn.ids) < 6 else drawn.ids
        rows = model.logits([[*prompt, *ended]])[len(prompt) - 1 : -1].astype(np.float64)
        log_probs = rows - np.log(np.exp(rows).sum(1, keepdims=True))
        assert drawn.score == pytest.approx(log_probs[np.arange(len(ended)), ended].sum(), abs=1e-4)
    coldest = sample(model, prompts, max_length=6, temperature=1e-3)
    assert [h.ids for h in coldest] == [h[0].ids for h in generate(model, prompts, max_length=6)]


def test_samples_of_an_encoder_decoder():
    dg.manual_seed(1)
    model = dg.Transformer(dg.TransformerConfig.tiny(vocab_size=11, d_model=8, num_heads=2, d_ff=8))
    sources = [[4, 5, 2], [6, 2]]
    coldest = sample(model, sources, max_length=5, temperature=1e-3)
    assert [h.ids for h in coldest] == [h[0].ids for h in generate(model, sources, max_length=5)]


def test_saved_and_loaded(tmp_path, device):
    model = model_of(2)
    model.save(tmp_path)
    loaded = dg.load(tmp_path).to(device)
    assert type(loaded) is TextDecoder and loaded.config == model.config
    np.testing.assert_array_equal(loaded.logits(BATCH), model.logits(BATCH))
    weights = loaded.attention_weights([1, 5, 6])
    assert [array.shape for array in weights["decoder"]] == [(2, 3, 3)] * 2
    assert all(not np.triu(array, 1).any() for array in weights["decoder"])
    assert model.memory_plan(64)["peak"] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: generate(m, [[1], []]), r"generate: src_batch\[1\] must hold at least one token"),
        (lambda m: generate(m, [[1, 11]]), r"generate: src_batch\[0\]\[1\] must lie in \[0, 11\)"),
        (lambda m: sample(m, [[1]], temperature=0), "sample: temperature must be above 0"),
        (lambda m: sample(m, [[1]], top_p=1.5), "sample: top_p must be at most 1, got 1.5"),
        (lambda m: sample(m, [[1]], top_k=0), "sample: top_k must be at least 1, got 0"),
        (lambda m: m.loss([[1, 2], []]), "loss: batch must hold at least one text, and each at least one token"),
        (lambda m: sample(3, [[1]]), "sample: model must be an EncoderDecoder or a TextDecoder, got int"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(model_of())


def test_logits_that_are_not_finite():
    model = model_of()
    model.output.weight.copy_(np.full((11, 6), np.nan))
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        sample(model, [[1]], max_length=2)


@pytest.mark.parametrize(
    "fields",
    [
        {"positions": "relative", "position_buckets": 4, "position_distance": 5},
        {"positions": "alibi", "num_heads": 3},
        {"positions": "shaw", "position_distance": 2},
        {"positions": "rotary", "rotary_features": 2, "d_model": 8},
        {"positions": "none", "kv_heads": 1, "qk_norm": "rms", "window": 3},
        {"positions": "learned", "position_offset": 2},
        {"position_layout": "fairseq", "position_offset": 2, "layers": [{"num_heads": 3}, {"window": 1}]},
        {"positions": "rotary", "d_model": 8, "rotary_scaling": {"type": "yarn", "factor": 4, "original_max_length": 8},
         "layers": [{"positions": "none"}, {"rotary_features": 2}]},
        {"positions": "rotary", "d_model": 8, "norm": "rms", "gated": True, "activation": "silu", "norm_first": True,
         "attention_bias": "", "feed_forward_bias": False, "head_dim": 6},
    ],
    ids=str,
)  # fmt: skip
def test_each_kind_of_positions_goes_on_from_the_cache(fields):
    """Greedy search with the cache takes the tokens that logits of the whole text find."""
    model = model_of(5, **fields)
    prompts = [[1, 5, 6, 7, 9], [1]]
    for prompt, hypotheses in zip(prompts, generate(model, prompts, max_length=6), strict=True):
        ids = list(prompt)
        for _ in range(6):
            row = model.logits([ids])[-1].astype(np.float64)
            row[[0, 1, 3]] = -np.inf
            ids.append(int(row.argmax()))
            if ids[-1] == 2:
                break
        expected = ids[len(prompt) :]
        assert hypotheses[0].ids == (expected[:-1] if expected[-1] == 2 else expected)


def test_without_an_end_outputs_have_the_longest_length():
    model = model_of(3, eos_id=None)
    for beam in (1, 3):
        assert [len(each[0].ids) for each in generate(model, [[4, 5], [6]], beam=beam, max_length=5)] == [5, 5]
    assert len(score(model, [[4, 5]], [[6, 7]], ended=False)[0].token_logprobs) == 2
    with pytest.raises(ValueError, match="score: ended must be False where the config has no eos_id, got True"):
        score(model, [[4, 5]], [[6, 7]])
