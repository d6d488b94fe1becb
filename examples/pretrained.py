"""Translates or summarises with a checkpoint in the layout of the Hugging Face libraries, without PyTorch.

hf download Helsinki-NLP/opus-mt-en-de --local-dir opus-mt-en-de
python examples/pretrained.py opus-mt-en-de "A man is reading a book."

hf download facebook/bart-large-cnn --local-dir bart-large-cnn
python examples/pretrained.py bart-large-cnn "$(cat article.txt)"

A model of several languages needs the codes of two of them:

hf download facebook/nllb-200-distilled-600M --local-dir nllb
python examples/pretrained.py nllb "A man is reading a book." eng_Latn deu_Latn

Without arguments it makes such a folder: a small model of BART's shape, trained for some seconds on German numbers.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

import dragoman as dg
from tokenizers import Tokenizer, models, pre_tokenizers, processors

ENGLISH = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
GERMAN = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"]
SETTINGS = {"num_beams": 4, "max_length": 12, "early_stopping": True, "forced_bos_token_id": 0}


def make_folder(folder, steps=120):
    """Trains a small model of BART's shape, and writes it with a tokenizer and with settings for its search."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *ENGLISH, *GERMAN]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(f"{folder}/tokenizer.json")
    Path(folder, "generation_config.json").write_text(json.dumps(SETTINGS))

    dg.manual_seed(0)
    sizes = {"d_model": 32, "num_heads": 4, "d_ff": 64, "num_encoder_layers": 1, "num_decoder_layers": 1}
    shape = {"positions": "learned", "position_offset": 2, "embedding_norm": True, "activation": "gelu"}
    shape |= {"scale_embeddings": False, "output_bias": True, "dropout": 0.0, "embedding_dropout": 0.0}
    ids = {"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3, "start_id": (2, 0)}
    model = dg.Transformer(dg.TransformerConfig(vocab_size=len(words), max_length=32, **sizes, **shape, **ids))
    optimizer, draw = dg.optim.AdamW(model, lr=1e-2), random.Random(0)
    for _ in range(steps):
        lines = [[draw.randrange(10) for _ in range(draw.randint(1, 6))] for _ in range(32)]
        loss = model.loss(
            [[0, *(4 + i for i in line), 2] for line in lines], [[14 + i for i in line] for line in lines]
        )
        loss.backward()
        optimizer.step(loss)
    print(f"loss {loss.item():.2f} after {steps} steps")
    model.eval().save_pretrained(folder, model_type="bart")


if len(sys.argv) > 1:
    folder, text, *languages = sys.argv[1:]
    texts = [text]
else:
    folder, texts, languages = tempfile.mkdtemp(), ["one two three", "seven four ten one"], []
    make_folder(folder)

codes = dict(zip(("source_language", "target_language"), languages, strict=False))
model = dg.Translator.load(folder, **codes)
print(model.search_options())  # what the folder asks for; a call may say otherwise
for text in texts:
    print(f"{text}: {model(text)}")
    for candidate in model.candidates(text, count=2, beam=4):
        print(f"  {candidate.score:.3f} {candidate.text}")
