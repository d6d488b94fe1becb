"""Text in, text out, beside transformers: a folder that it writes, with its own tokenizer and settings of a search."""

import dragoman as dg
import numpy as np
import pretrained_files as made
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = ["the cat sat on the mat", "a big house", "Hello world, to be or not to be!", "on", "dogs and cats and dogs"]
SIZES = {
    **{"d_model": 24, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 20, "decoder_ffn_dim": 28, "max_position_embeddings": 80},
}
SEARCHES = {
    "greedy": {"max_length": 15},
    "beams": {"num_beams": 4, "max_length": 14, "min_length": 5, "length_penalty": 2.0, "early_stopping": True},
    "summaries": {"num_beams": 3, "max_length": 16, "no_repeat_ngram_size": 2, "early_stopping": "never"},
    "new tokens": {"num_beams": 2, "max_new_tokens": 9, "min_new_tokens": 6, "repetition_penalty": 1.4},
    "forbidden": {
        **{"num_beams": 3, "max_length": 12, "bad_words_ids": [[7], [20, 21], [21, 20]], "suppress_tokens": [9, 11]},
        **{"begin_suppress_tokens": [30, 31], "renormalize_logits": True},
    },
}


def redrawn(model, seed):
    """Weights that make a choice clear."""
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                values = draw.normal(0, 1.4 / parameter.shape[1] ** 0.5, tuple(parameter.shape))
                parameter.copy_(torch.tensor(values.astype(np.float32)))
    return model.eval()


def folder_of(model, tokenizer, settings, folder):
    model.generation_config = transformers.GenerationConfig(
        **{
            name: getattr(model.config, name, None)
            for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id")
        },
        **settings,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def written(model, tokenizer, text):
    """What transformers writes; the search is that of the folder."""
    inputs = tokenizer(text, return_tensors="pt")
    found = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    return tokenizer.decode(found[0], skip_special_tokens=True)


@pytest.mark.parametrize("search", SEARCHES)
def test_bart(search, tmp_path):
    """With a forced first token, which counts in lengths."""
    made.byte_level(tmp_path / "files", "RobertaTokenizer")
    tokenizer = transformers.RobertaTokenizer.from_pretrained(tmp_path / "files")
    config = transformers.BartConfig(
        vocab_size=len(tokenizer), **SIZES, bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2,
        forced_bos_token_id=0, forced_eos_token_id=2,
    )  # fmt: skip
    model = redrawn(transformers.BartForConditionalGeneration(config), 3)
    settings = {**SEARCHES[search], "forced_bos_token_id": 0, "forced_eos_token_id": 2}
    translator = dg.Translator.load(folder_of(model, tokenizer, settings, tmp_path / "folder"))
    assert translator(TEXTS) == [written(model, tokenizer, text) for text in TEXTS]


@pytest.mark.parametrize("search", ["greedy", "beams"])
def test_t5(search, tmp_path):
    """A table of more rows than the tokenizer has tokens."""
    pytest.importorskip("sentencepiece")
    made.t5(tmp_path / "files")
    tokenizer = transformers.T5Tokenizer.from_pretrained(tmp_path / "files", extra_ids=5)
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=24, d_kv=6, d_ff=30, num_layers=1, num_heads=3, decoder_start_token_id=0
    )
    model = redrawn(transformers.T5ForConditionalGeneration(config), 5)
    translator = dg.Translator.load(folder_of(model, tokenizer, SEARCHES[search], tmp_path / "folder"))
    assert translator(TEXTS) == [written(model, tokenizer, text) for text in TEXTS]


@pytest.mark.parametrize("settings", [{"max_length": 30}, {"max_new_tokens": 8, "num_beams": 3}], ids=str)
def test_gpt2(settings, tmp_path):
    """Lengths with the text and without it."""
    made.byte_level(tmp_path / "files", "GPT2Tokenizer")
    tokenizer = transformers.GPT2Tokenizer.from_pretrained(tmp_path / "files")
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=24, n_layer=2, n_head=2, n_positions=80, bos_token_id=0, eos_token_id=0
    )
    model = redrawn(transformers.GPT2LMHeadModel(config), 7)
    model.config.pad_token_id = 0
    folder = folder_of(model, tokenizer, settings, tmp_path / "folder")
    lm = dg.LanguageModel.load(folder)
    assert [text + lm(text) for text in TEXTS] == [written(model, tokenizer, text) for text in TEXTS]
