"""Searches in plain Python, one sentence at a time, over a function that gives log probabilities of whole prefixes.

`rows(prefixes)` gives (prefixes, vocabulary) log probabilities of the token after each prefix, with -inf for what may
not be chosen. Each search is written from its source, not from the library.
"""

import dragoman as dg
import numpy as np
from dragoman.models import DecoderConfig, TextDecoder

VOCABULARY = 13
NEVER = (0, 1, 3)
SOURCES = [[5, 6, 7], [8], [9, 10, 11, 4, 5, 6], [], [4, 4]]


def make_model(seed=0, **overrides):
    dg.manual_seed(seed)
    sizes = {"vocab_size": VOCABULARY, "d_model": 16, "num_heads": 2, "d_ff": 24}
    depths = {"num_encoder_layers": 1, "num_decoder_layers": 2}
    model = dg.Transformer(dg.TransformerConfig(**(sizes | depths | overrides)))
    model.load_state_dict({k: v * (1 if "norm" in k else 2) for k, v in model.state_dict().items()})
    return model


def log_softmax(rows):
    return rows - np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True)) - rows.max(1, keepdims=True)


def make_decoder(seed=0, **fields):
    dg.manual_seed(seed)
    sizes = {"vocab_size": VOCABULARY, "d_model": 8, "num_heads": 2, "d_ff": 8, "num_layers": 2, "max_length": 24}
    return TextDecoder(DecoderConfig(**(sizes | fields)))


def last_logits(model, src, prefixes):
    """(prefixes, vocabulary): the logits after each prefix, which are of one length."""
    if isinstance(model, TextDecoder):
        logits = model.logits([[*src, *ids] for ids in prefixes])
    else:
        logits = model.logits([src] * len(prefixes), [[1, *ids] for ids in prefixes])
    return logits.reshape(len(prefixes), -1, VOCABULARY)[:, -1].astype(np.float64)


def rows_of(model, src, forbid=None, change=None, never=NEVER, renormalize=False):
    """The function that plain searches ask: `change(ids, logits)` comes before the softmax, `forbid(ids)` after it."""

    def rows(prefixes):
        last = last_logits(model, src, prefixes)
        for ids, row in zip(prefixes, last, strict=True):
            if change is not None:
                change(ids, row)
        found = log_softmax(last)
        found[:, list(never)] = -np.inf
        for ids, row in zip(prefixes, found, strict=True):
            if forbid is not None:
                row[list(forbid(ids))] = -np.inf
        return log_softmax(found) if renormalize else found

    return rows


def best(extensions, count):
    """The most probable, ties in order."""
    return sorted((e for e in extensions if e[1] > -np.inf), key=lambda e: -e[1])[:count]


def extended(rows, live):
    for (ids, total), row in zip(live, rows([ids for ids, _ in live]), strict=True):
        yield from (((*ids, token), total + log_prob) for token, log_prob in enumerate(row))


def dragoman(rows, beam, limit, alpha, ends=(2,), extra=lambda ids, length: 0.0):
    """The rule "dragoman", as SearchOptions describes it; a score is raised by extra(ids without the end, length)."""
    live, finished = [((), 0.0)], []

    def score(ids, total, length):
        return total / ((5 + length) / 6) ** alpha + extra(ids, length)

    for _ in range(limit):
        extensions = best(extended(rows, live), None)
        ended = [e for e in extensions[:beam] if e[0][-1] in ends]
        finished += [(ids[:-1], score(ids[:-1], total, len(ids))) for ids, total in ended]
        live = [e for e in extensions if e[0][-1] not in ends][:beam]
        finished = sorted(finished, key=lambda h: -h[1])[:beam]
        if not live:
            return finished
        if len(finished) == beam and max(score(*e, len(e[0])) for e in live) <= finished[-1][1]:
            return finished
    cut = [(ids, score(ids, total, limit)) for ids, total in live]
    return (finished + sorted(cut, key=lambda h: -h[1]))[:beam]


def fairseq(rows, beam, limit, alpha, ends=(2,), min_length=1):
    """fairseq/sequence_generator.py: `max_len` leaves room for eos, candidates are twice the beam."""
    (eos,) = ends
    live, finished = [((), 0.0)], []
    max_len = limit - 1
    for step in range(max_len + 1):

        def limited(prefixes, step=step):
            table = np.array(rows(prefixes))
            others = np.arange(table.shape[1]) != eos
            if step >= max_len:
                table[:, others] = -np.inf
            elif step < min_length:
                table[:, eos] = -np.inf
            return table

        candidates = best(extended(limited, live), 2 * beam)
        for ids, total in candidates[:beam]:
            if ids[-1] == eos and len(finished) < beam:
                finished.append((ids[:-1], total / (step + 1) ** alpha))
        live = [e for e in candidates if e[0][-1] != eos][:beam]
        if len(finished) == beam or not live:
            break
    return sorted(finished, key=lambda h: -h[1])


def marian(rows, beam, limit, alpha, ends=(2,)):
    """marian/src/translator: BeamSearch::search, purgeBeams and History, for one sentence."""
    live, history, size = [((), 0.0)], [], beam
    for length in range(1, limit + 1):
        grid = best(extended(rows, live), size)
        last = length == limit or all(ids[-1] in ends for ids, _ in grid)
        for ids, total in grid:
            if ids[-1] in ends or last:
                history.append((ids[:-1] if ids[-1] in ends else ids, total / length**alpha))
        live = [e for e in grid if e[0][-1] not in ends]
        size = len(live) if len(grid) == size else size - (len(grid) - len(live))
        if last:
            break
    return sorted(history, key=lambda h: -h[1])[:beam]


def hf(rows, beam, limit, alpha, ends=(2,), early_stopping=False):
    """transformers/generation/utils.py: `_beam_search`, for one sentence."""
    running, finished = [((), 0.0)], []
    for length in range(1, limit + 1):
        top = best(extended(rows, running), max(2, 1 + len(ends)) * beam)
        hits = [ids[-1] in ends or length == limit for ids, _ in top]
        running = [e for e, hit in zip(top, hits, strict=True) if not hit][:beam]
        for (ids, total), hit in list(zip(top, hits, strict=True))[:beam]:
            if hit:
                finished.append((ids[:-1] if ids[-1] in ends else ids, total / length**alpha))
        finished = sorted(finished, key=lambda h: -h[1])[:beam]
        if not running:
            break
        if len(finished) == beam:
            most = limit if early_stopping == "never" else length
            if early_stopping is True or running[0][1] / most**alpha <= finished[-1][1]:
                break
    return finished


def most_probable(rows, limit, allowed, ends=(2,)):
    """The most probable output of all that `allowed(ids, ended)` accepts, by enumeration."""
    found = (None, -np.inf)
    live = [((), 0.0)]
    for length in range(1, limit + 1):
        extensions = [e for e in extended(rows, live) if e[1] > -np.inf]
        live = [e for e in extensions if e[0][-1] not in ends]
        complete = [(ids[:-1], total) for ids, total in extensions if ids[-1] in ends and allowed(ids[:-1])]
        if length == limit:
            complete += [e for e in live if allowed(e[0])]
        found = max([found, *complete], key=lambda e: e[1])
    return found
