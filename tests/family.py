"""Small tasks, models and data of the encoder family."""

import dragoman as dg
from dragoman.data import Tokenizer
from dragoman.models import EncoderConfig, TextEncoder, VisionConfig, VisionTransformer

SIZES = {"d_model": 16, "num_heads": 2, "d_ff": 32, "num_layers": 1}
OPTIONS = {"batch_tokens": 200, "warmup": 2, "lr": 2e-2, "log_interval": 1, "label_smoothing": 0.0}

NOUNS, VERBS, MOODS = ("dog", "cat", "bird", "fish"), ("runs", "sleeps", "sings"), ("good", "bad", "fine", "awful")


def sentences_of(rng, count):
    """([words], [tags]) of two to four words; "fish" is a verb after "they"."""
    found = []
    for _ in range(count):
        words = [str(rng.choice(["the", "they"]))]
        tags = ["DET" if words[0] == "the" else "PRON"]
        if tags[0] == "DET":
            words += [str(rng.choice(NOUNS)), str(rng.choice(VERBS))]
            tags += ["NOUN", "VERB"]
        else:
            words += ["fish"]
            tags += ["VERB"]
        found.append((words, tags))
    return found


def reviews_of(rng, count):
    """(text, label); the label follows the mood."""
    moods = [str(rng.choice(MOODS)) for _ in range(count)]
    return [(f"the {rng.choice(NOUNS)} is {mood}", "pos" if mood in ("good", "fine") else "neg") for mood in moods]


def tokenizer_of(kind="char"):
    words = ("the", "they", "is", *NOUNS, *VERBS, *MOODS)
    return Tokenizer.train([f"{a} {b}" for a in words for b in words], 100, kind)


def encoder_for(task, seed=0, **fields):
    return encoder_of(seed, **task.config_fields() | fields)


def encoder_of(seed=0, **fields):
    dg.manual_seed(seed)
    rates = {"dropout": 0.1, "embedding_dropout": 0.1}
    return TextEncoder(EncoderConfig(**(SIZES | rates | {"max_length": 64} | fields)))


def vision_for(task, seed=0, **fields):
    dg.manual_seed(seed)
    return VisionTransformer(
        VisionConfig(**(SIZES | {"patch_size": 2, "dropout": 0.0} | task.config_fields() | fields))
    )


def bits(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def untimed(records):
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_s")} for record in records]
