"""Attention over a ragged batch: two sentences of three and five tokens, with the weights each query gives to its keys.

python examples/attention_weights.py
"""

import dragoman as dg
import numpy as np

sentences = [["the", "red", "house"], ["we", "saw", "it", "last", "night"]]
sequences = dg.Sequences([len(sentence) for sentence in sentences])
num_heads, head_dim = 2, 8

generator = np.random.default_rng(0)
q, k, v = (
    dg.tensor(generator.standard_normal((sequences.tokens, num_heads, head_dim)).astype(np.float32)) for _ in range(3)
)

out, weights = dg.functional.attention(q, k, v, sequences, sequences, causal=True, return_weights=True)
print("out", out.shape)  # (tokens of both sentences, num_heads, head_dim)

for sentence, weight in zip(sentences, weights, strict=True):
    head = np.asarray(weight)[0]  # (queries, keys) of the first head
    print()
    print(" " * 8 + "".join(f"{word:>8}" for word in sentence))
    for word, row in zip(sentence, head, strict=True):
        print(f"{word:>8}" + "".join(f"{value:8.2f}" for value in row))
    assert np.allclose(head.sum(axis=1), 1, atol=1e-5)
    assert np.all(np.triu(head, 1) == 0), "a token looked at a later one"
