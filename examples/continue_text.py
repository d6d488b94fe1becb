"""Goes on from a text with a GPT-2 in the layout of the Hugging Face libraries, without PyTorch.

hf download openai-community/gpt2 --local-dir gpt2
python examples/continue_text.py gpt2 "The old house at the end of the street"

Without arguments it makes such a folder: a small model, trained for some seconds on sentences.
"""

import random
import sys
import tempfile

import dragoman as dg
from dragoman.models import DecoderConfig, TextDecoder
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WHO = ["a man", "a woman", "a dog", "two children", "the old cat"]
DOES = ["runs", "sits", "plays", "sleeps", "looks around"]
WHERE = ["in a park", "on the beach", "near a lake", "under a tree", "at home"]
END = "<|endoftext|>"


def make_folder(folder, steps=150):
    """Trains a small model of GPT-2's shape with a byte-level tokenizer like GPT-2's, and writes both."""
    draw = random.Random(0)
    texts = [" ".join(map(draw.choice, (WHO, DOES, WHERE))) for _ in range(400)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=320, special_tokens=[END], initial_alphabet=alphabet)
    )
    tokenizer.save(f"{folder}/tokenizer.json")

    dg.manual_seed(0)
    sizes = {"d_model": 64, "num_heads": 4, "d_ff": 256, "num_layers": 2, "max_length": 64}
    shape = {"positions": "learned", "norm_first": True, "activation": "gelu_tanh", "scale_embeddings": False}
    ids = {"bos_id": 0, "eos_id": 0, "pad_id": None, "unk_id": None}
    model = TextDecoder(DecoderConfig(vocab_size=tokenizer.get_vocab_size(), **sizes, **shape, **ids))
    optimizer = dg.optim.AdamW(model, lr=4e-3)
    lines = [[0, *tokenizer.encode(text).ids, 0] for text in texts]
    for _ in range(steps):
        loss = model.loss(draw.sample(lines, 32))
        loss.backward()
        optimizer.step(loss)
    print(f"loss {loss.item():.2f} after {steps} steps")
    model.eval().save_pretrained(folder, model_type="gpt2")


if len(sys.argv) > 1:
    folder, texts = sys.argv[1], sys.argv[2:] or ["The old house at the end of the street"]
else:
    folder, texts = tempfile.mkdtemp(), ["a dog", "two children sleep", "the old"]
    make_folder(folder)

lm = dg.LanguageModel.load(folder)
for text in texts:
    print(f"{text}|{lm(text, max_length=20)}")  # the most probable token at each place
    for place in range(2):  # drawn: another continuation for each place
        print(f"{text}|{lm(text, max_length=20, temperature=0.8, top_k=40, seed=1, place=place)}")

print(texts[0], end="|")
for piece in lm.stream(texts[0], max_length=20):  # in pieces, as they are certain
    print(piece, end="", flush=True)
print()
