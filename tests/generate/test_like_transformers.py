"""like="hf" against transformers' generate, on a Marian model with the same weights."""

import re

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import generate

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

NAMES = [
    (r"^model\.", ""),
    (r"encoder_attn_layer_norm", "norm2"),
    (r"encoder_attn", "cross_attention"),
    (r"self_attn_layer_norm", "norm1"),
    (r"self_attn", "self_attention"),
    (r"fc([12])", r"feed_forward.linear\1"),
    (r"^(encoder.layers.\d+)\.final_layer_norm", r"\1.norm2"),
    (r"final_layer_norm", "norm3"),
    (r"^shared", "src_embedding"),
    (r"^final_logits_bias", "output.bias"),
]
SOURCES = [[5, 6, 7, 0], [8, 0], [9, 10, 11, 4, 5, 6, 0], [4, 4, 0]]


def make_models(seed, eos_id=0):
    """A model of transformers with large random weights, and ours with the same."""
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "max_position_embeddings": 40}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    ids = {"vocab_size": 13, "pad_token_id": 12, "decoder_start_token_id": 12, "eos_token_id": 0, "bos_token_id": None}
    config = transformers.MarianConfig(**sizes, **heads, **ids, scale_embedding=True, activation_function="swish")
    theirs = transformers.MarianMTModel(config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "embed_positions" not in name:
                parameter.normal_(0, 0.6 if parameter.ndim > 1 else 0.3)
    ours = dg.Transformer(
        dg.TransformerConfig(
            vocab_size=13, d_model=16, num_heads=2, d_ff=24, num_encoder_layers=1, num_decoder_layers=2, max_length=40,
            position_layout="halves", activation="silu", output_bias=True, pad_id=12, start_id=12, eos_id=eos_id,
            unk_id=1, bos_id=None,
        )
    )  # fmt: skip
    state = {}
    for name, array in theirs.state_dict().items():
        for pattern, other in NAMES:
            name = re.sub(pattern, other, name)
        state[name] = array.numpy()
    ours.load_state_dict({name: state[name].reshape(own.shape) for name, own in ours.state_dict().items()})
    return theirs, ours


CASES = {
    "greedy": {"beam": 1},
    "beam": {"beam": 4, "count": 4},
    "early": {"beam": 4, "count": 4, "early_stopping": True, "length_penalty": 1.5},
    "never": {"beam": 3, "count": 3, "early_stopping": "never", "length_penalty": 1.5},
    "no penalty": {"beam": 3, "count": 2, "length_penalty": 0.0},
    "long outputs": {"beam": 3, "count": 3, "length_penalty": 2.5},
    "short": {"beam": 5, "count": 5, "max_length": 3},
    "min length": {"beam": 3, "count": 3, "min_length": 5},
    "n-grams": {"beam": 3, "count": 3, "no_repeat_ngram": 2},
    "repetition": {"beam": 3, "count": 3, "repetition_penalty": 1.8},
    "greedy repetition": {"beam": 1, "repetition_penalty": 1.4, "no_repeat_ngram": 3},
    "suppressed": {"beam": 2, "count": 2, "suppress": [12, 5, 7]},
    "first token": {"beam": 3, "count": 3, "begin_suppress": [0, 5, 8]},
    "bad words": {"beam": 3, "count": 3, "bad_words": [[12], [6, 6], [5, 4], [9, 9, 7]]},
    "forced": {"beam": 3, "count": 3, "prefix": [7], "forced_last": 0, "max_length": 6, "begin_suppress": [9]},
    "as OPUS": {"beam": 4, "count": 4, "bad_words": [[12]], "renormalize": True, "forced_last": 0, "max_length": 7},
    "renormalized": {"beam": 3, "count": 3, "renormalize": True, "no_repeat_ngram": 2, "repetition_penalty": 1.3,
                     "min_length": 3},
}  # fmt: skip
THEIR_NAMES = {
    "beam": "num_beams",
    "count": "num_return_sequences",
    "max_length": "max_new_tokens",
    "min_length": "min_new_tokens",
    "no_repeat_ngram": "no_repeat_ngram_size",
    "suppress": "suppress_tokens",
    "begin_suppress": "begin_suppress_tokens",
    "bad_words": "bad_words_ids",
    "renormalize": "renormalize_logits",
    "forced_last": "forced_eos_token_id",
}


def their_outputs(model, source, options, eos, read=1):
    """(ids of an output, score) by transformers, after the first `read`; the score is None of a greedy search."""
    named = {THEIR_NAMES.get(name, name): value for name, value in options.items() if name != "prefix"}
    if "prefix" in options:
        (named["forced_bos_token_id"],) = options["prefix"]
    given = {"early_stopping": False, "forced_eos_token_id": None} | named
    result = model.generate(
        torch.tensor([source]), do_sample=False, use_cache=True, output_scores=True, return_dict_in_generate=True,
        eos_token_id=list(eos), pad_token_id=12, **given,
    )  # fmt: skip
    outputs = []
    for row in result.sequences.tolist():
        ids = row[read : read + options["max_length"]]
        ends = [i for i, id in enumerate(ids) if id in eos]
        outputs.append(ids[: ends[0]] if ends else ids)
    scores = result.sequences_scores.tolist() if options["beam"] > 1 else [None]
    return list(zip(outputs, scores, strict=True))


def assert_like_transformers(theirs, ours, options, eos=(0,)):
    options = {"max_length": 12} | options
    for source, found in zip(SOURCES, generate(ours, SOURCES, like="hf", **options), strict=True):
        expected = their_outputs(theirs, source, options, eos)
        assert [h.ids for h in found] == [ids for ids, _ in expected]
        if options["beam"] > 1:
            np.testing.assert_allclose([h.score for h in found], [score for _, score in expected], atol=1e-4)


@pytest.mark.parametrize("seed", [0, 2, 4])  # no two hypotheses are equal but for rounding, as with 3 and 7
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_searches_like_transformers(seed, options):
    assert_like_transformers(*make_models(seed), options)


@pytest.mark.parametrize("case", ["greedy", "beam", "early", "never", "min length", "as OPUS"])
def test_several_eos_like_transformers(case):
    for seed in (0, 2):
        theirs, ours = make_models(seed, eos_id=(0, 3, 8))
        assert_like_transformers(theirs, ours, CASES[case], (0, 3, 8))


def random_options(rng, eos):
    """Options that go together, and none where transformers forces what it forbids."""

    def ids(count, first=0):
        return rng.choice(np.arange(first, 13), count, replace=False).tolist()

    options = {"beam": int(rng.choice([1, 2, 3, 4, 6])), "max_length": int(rng.choice([2, 3, 5, 8, 12]))}
    longest = options["max_length"]
    more = {
        "length_penalty": lambda: float(rng.choice([0.0, 0.5, 1.5, 3.0])),
        "min_length": lambda: int(rng.integers(longest + 1)),
        "no_repeat_ngram": lambda: int(rng.integers(2, 4)),
        "repetition_penalty": lambda: float(rng.choice([0.7, 1.2, 2.0])),
        "suppress": lambda: ids(3, 1),
        "begin_suppress": lambda: ids(3),
        "bad_words": lambda: [w for w in map(ids, rng.integers(1, 4, 4).tolist()) if w[1:] or w[0] not in eos],
        "prefix": lambda: ids(1, 1),
        "forced_last": lambda: int(rng.choice([0, 7])),
        "renormalize": lambda: True,
    }  # fmt: skip
    if options["beam"] > 1:
        more["early_stopping"] = lambda: [True, "never"][rng.integers(2)]
    options |= {name: draw() for name, draw in more.items() if rng.random() < 0.35}
    forbidden = {*eos, *options.get("suppress", ())}
    if {*options.get("prefix", ())} & forbidden:
        del options["prefix"]
    if options.get("forced_last") in {*options.get("suppress", ()), *options.get("begin_suppress", ())}:
        del options["forced_last"]
    if not options.get("bad_words", True):
        del options["bad_words"]
    return options | {"count": options["beam"]}


def test_random_options_like_transformers():
    rng = np.random.default_rng(5)
    for seed, eos in ((2, (0,)), (4, (0,)), (0, (0, 3, 8))):
        theirs, ours = make_models(seed, eos if len(eos) > 1 else 0)
        for _ in range(12):
            options = random_options(rng, eos)
            source = SOURCES[rng.integers(len(SOURCES))]
            (found,) = generate(ours, [source], like="hf", **options)
            expected = their_outputs(theirs, source, options, eos)
            expected = [
                (ids, score) for ids, score in expected if score is None or score > -1e6
            ]  # others are no outputs
            assert [h.ids for h in found] == [ids for ids, _ in expected], options
            if options["beam"] > 1:
                np.testing.assert_allclose([h.score for h in found], [score for _, score in expected], atol=1e-4)


PROMPTS = [[5, 6, 7, 6], [8], [9, 9, 3, 4, 5, 6, 2]]
GOING_ON = ["greedy", "beam", "early", "never", "long outputs", "min length", "n-grams", "repetition", "bad words",
            "greedy repetition", "renormalized"]  # fmt: skip


@pytest.fixture(scope="module", params=["GPT2", "Llama"])
def decoders(request, tmp_path_factory):
    """A decoder-only model of transformers, and ours from its folder."""
    torch.manual_seed(1)
    ids = {"vocab_size": 13, "eos_token_id": 0, "bos_token_id": 1, "pad_token_id": None}
    sizes = {
        "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40},
        "Llama": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2},
    }
    config = getattr(transformers, f"{request.param}Config")(**sizes[request.param], **ids)
    name = {"GPT2": "GPT2LMHeadModel", "Llama": "LlamaForCausalLM"}[request.param]
    theirs = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.6 if parameter.ndim > 1 else 0.3)
    folder = tmp_path_factory.mktemp(name)
    theirs.save_pretrained(folder)
    return theirs, dg.load(folder)


@pytest.mark.parametrize("case", GOING_ON)
def test_decoders_go_on_like_transformers(decoders, case):
    """What is repeated counts from the prompt; pad tokens after an end are no part of an output."""
    theirs, ours = decoders
    options = {"max_length": 9} | CASES[case]
    for prompt, found in zip(PROMPTS, generate(ours, PROMPTS, like="hf", **options), strict=True):
        expected = their_outputs(theirs, prompt, options, (0,), len(prompt))
        assert [h.ids for h in found] == [ids for ids, _ in expected]
        if options["beam"] > 1:
            np.testing.assert_allclose([h.score for h in found], [score for _, score in expected], atol=1e-4)
