"""generation_config.json as options of a search, and what a call changes about them."""

import pretrained_files as made
import pytest
from dragoman.generate import SearchOptions
from dragoman.interop.huggingface.generation_config import config_with, options_of
from dragoman.interop.huggingface.tokenizers.files import TokenizerFiles
from dragoman.models import DecoderConfig, TransformerConfig
from dragoman.predict.defaults import with_defaults

SIZES = {"vocab_size": 60, "d_model": 8, "num_heads": 2, "d_ff": 8}
CONFIG = TransformerConfig(**SIZES, num_encoder_layers=1, num_decoder_layers=1, start_id=2)
DECODER = DecoderConfig(**SIZES, num_layers=1)


def options(folder, config=CONFIG, vocab_size=60, **fields):
    return options_of(TokenizerFiles(made.write(folder, generation_config__json=fields)), config, vocab_size)


def test_every_option(tmp_path):
    fields = {
        **{"num_beams": 4, "length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 3},
        **{"repetition_penalty": 1.3, "renormalize_logits": True, "bad_words_ids": [[59], [4, 5]]},
        **{"suppress_tokens": [7, 8], "begin_suppress_tokens": [9], "forced_eos_token_id": 2, "max_length": 142},
        **{"min_length": 56, "decoder_start_token_id": 2, "eos_token_id": 2, "pad_token_id": 1},
    }
    assert options(tmp_path, **fields) == {
        **{"like": "hf", "beam": 4, "length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram": 3},
        **{"repetition_penalty": 1.3, "renormalize": True, "suppress": [7, 8, 59], "bad_words": [(4, 5)]},
        **{"begin_suppress": [9], "forced_last": 2, "max_length": 141, "min_length": 55},
    }


def test_nothing_is_greedy_search(tmp_path):
    assert options(tmp_path) == {"like": "hf", "beam": 1}
    assert options_of(TokenizerFiles(tmp_path / "none"), CONFIG, 60) == {"like": "hf", "beam": 1}


def test_lengths_count_what_every_output_begins_with(tmp_path):
    """BART's start and forced first token are part of transformers' lengths."""
    config = TransformerConfig(**SIZES, num_encoder_layers=1, num_decoder_layers=1, start_id=(2, 0))
    assert options(tmp_path, config, max_length=20, min_length=5) == {
        **{"like": "hf", "beam": 1, "max_length": 18, "min_length": 3}
    }
    found = options(tmp_path, config, max_length=9, max_new_tokens=20, min_new_tokens=5)
    assert (found["max_length"], found["min_length"]) == (19, 4)
    found = options(tmp_path, DECODER, max_length=20, min_length=5)
    assert (found["total_length"], found["total_minimum"]) == (20, 5)
    assert options(tmp_path, DECODER, max_new_tokens=7)["max_length"] == 7


def test_draws(tmp_path):
    found = options(tmp_path, do_sample=True, temperature=0.6, top_p=0.9, top_k=20)
    assert {n: found[n] for n in ("temperature", "top_p", "top_k")} == {"temperature": 0.6, "top_p": 0.9, "top_k": 20}
    assert options(tmp_path, do_sample=True)["top_k"] == 50  # transformers' own
    assert "top_k" not in options(tmp_path, do_sample=True, top_k=0)
    assert "temperature" not in options(tmp_path, temperature=0.6, top_p=0.9)
    with pytest.raises(ValueError, match=r"generation_config\.json: do_sample must be false where num_beams is 4"):
        options(tmp_path, do_sample=True, num_beams=4)


def test_rows_beyond_the_tokenizer_are_never_chosen(tmp_path):
    assert options(tmp_path, vocab_size=57, bad_words_ids=[[1]])["suppress"] == [1, 57, 58, 59]


def test_a_bad_word_may_not_be_an_end(tmp_path):
    assert "suppress" not in options(tmp_path, bad_words_ids=[[2]])


def test_older_folders_have_the_fields_in_config_json(tmp_path):
    task = {"summarization": {"num_beams": 4, "min_length": 10, "prefix": "summarize: "}}
    config = {"model_type": "bart", "num_beams": 2, "max_length": 30, "d_model": 8, "task_specific_params": task}
    files = TokenizerFiles(made.write(tmp_path, config__json=config))
    assert options_of(files, CONFIG, 60) == {
        **{"like": "hf", "beam": 4, "length_penalty": 1.0, "max_length": 29, "min_length": 9}
    }
    config["task_specific_params"] |= {"translation": {"num_beams": 7}}  # nobody says which
    files = TokenizerFiles(made.write(tmp_path, config__json=config))
    assert options_of(files, CONFIG, 60)["beam"] == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("penalty_alpha", 0.6), ("num_beam_groups", 2), ("diversity_penalty", 0.5), ("typical_p", 0.5)],
        *[("guidance_scale", 1.5), ("stop_strings", ["a"]), ("max_time", 3.0), ("sequence_bias", [[[1], 2.0]])],
        *[("encoder_no_repeat_ngram_size", 3), ("exponential_decay_length_penalty", [5, 1.1]), ("some_field", 1)],
        *[("num_beams", "4"), ("num_beams", -1), ("max_length", 2.5), ("length_penalty", -1.0), ("do_sample", 1)],
        *[("early_stopping", "soon"), ("bad_words_ids", [5]), ("bad_words_ids", [[]]), ("suppress_tokens", [-3])],
        *[("eos_token_id", "</s>"), ("forced_eos_token_id", [None]), ("top_p", 0)],
        *[("repetition_penalty", 10**400), ("length_penalty", 10**400)],
    ],
)
def test_what_is_refused(name, value, tmp_path):
    fields = {"num_beams": 2} if name == "length_penalty" or name == "early_stopping" else {}
    fields |= {"do_sample": True} if name == "top_p" else {}
    with pytest.raises(ValueError, match=rf"generation_config\.json: {name} must be .*got"):
        options(tmp_path, **fields, **{name: value})
        config_with(TokenizerFiles(tmp_path), CONFIG)


def test_what_asks_for_nothing_is_ignored(tmp_path):
    fields = {
        **{"transformers_version": "4.30.0", "_from_model_config": True, "use_cache": True, "typical_p": 1.0},
        **{"num_beam_groups": 1, "diversity_penalty": 0.0, "output_scores": False, "guidance_scale": None},
        **{"num_return_sequences": 1, "remove_invalid_values": False, "stop_strings": None, "bos_token_id": 0},
    }
    assert options(tmp_path, **fields) == {"like": "hf", "beam": 1}


def test_ids_of_the_config(tmp_path):
    def found(config=CONFIG, language=None, begins=False, **fields):
        files = TokenizerFiles(made.write(tmp_path, generation_config__json=fields))
        return config_with(files, config, language, begins=begins)

    assert found() == CONFIG
    assert found(decoder_start_token_id=5, forced_bos_token_id=0).start_id == (5, 0)
    assert found(decoder_start_token_id=5, forced_bos_token_id=0, language=9).start_id == (5, 9)
    assert found(decoder_start_token_id=5, language=9, begins=True).start_id == 9
    assert found(eos_token_id=[7, 8]).eos_id == (7, 8)
    assert found(DECODER, eos_token_id=[7]).eos_id == 7
    with pytest.raises(ValueError, match=r"generation_config\.json: .*start_id"):
        found(decoder_start_token_id=60)


FOLDER = {
    **{"like": "hf", "beam": 4, "length_penalty": 2.0, "early_stopping": True, "forced_last": 2, "max_length": 20},
    **{"min_length": 8, "renormalize": True, "suppress": [3]},
}
OF_EVERY_RULE = {"beam": 4, "max_length": 20, "min_length": 8, "renormalize": True, "suppress": [3]}
DRAWN = {"like": "hf", "beam": 1, "temperature": 0.7, "top_p": 0.9}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, FOLDER),
        ({"beam": None, "max_length": None}, FOLDER),
        ({"beam": 2}, {**FOLDER, "beam": 2}),
        ({"max_length": 5}, {**FOLDER, "max_length": 5, "min_length": 5}),
        ({"min_length": 30}, {n: v for n, v in {**FOLDER, "min_length": 30}.items() if n != "max_length"}),
        ({"like": "fairseq"}, {"like": "fairseq", **OF_EVERY_RULE}),
        (
            {"temperature": 1.0},
            {n: v for n, v in {**FOLDER, "temperature": 1.0}.items() if n != "beam"},
        ),
        (
            {"constraints": [[1]]},
            {n: v for n, v in OF_EVERY_RULE.items() if n != "renormalize"} | {"constraints": [[1]]},
        ),
        ({"coverage_penalty": 0.3}, {**OF_EVERY_RULE, "coverage_penalty": 0.3}),
    ],
)
def test_a_call_wins_over_the_folder(given, expected):
    assert with_defaults(FOLDER, given) == expected
    SearchOptions(**with_defaults(FOLDER, given))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"top_p": 0.5}, {**DRAWN, "top_p": 0.5}),
        ({"temperature": 0}, {"like": "hf", "beam": 1, "temperature": 0}),
        ({"beam": 3}, {"like": "hf", "beam": 3}),
    ],
)
def test_a_call_wins_over_draws(given, expected):
    assert with_defaults(DRAWN, given) == expected
