"""The exchange between ranks, with ranks that are threads of one process."""

import threading
from itertools import pairwise

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core
from dragoman.distributed import exchange
from dragoman.distributed.exchange import CHUNK, Exchange, Pieces
from dragoman.distributed.ranks import Ranks
from dragoman.optim import AdamW
from toy_runs import model_of, pairs_of


class ThreadRanks(Ranks):
    """A rank whose messages lie in a dict that all share; its own link."""

    def __init__(self, rank, size, mail):
        self.rank, self.size = rank, size
        self._mail = mail

    def link(self, device):
        return self

    def transfer(self, sends, receives, tag):
        for rank, tensor in sends:
            with self._mail["lock"]:
                self._mail.setdefault((self.rank, rank, tag), []).append(tensor.numpy().copy())
        return _Arrivals(self, list(receives), tag)

    def wait(self, transfers):
        while not all(transfer.done() for transfer in transfers):
            pass


class _Arrivals:
    def __init__(self, ranks, receives, tag):
        self.ranks, self.receives, self.tag = ranks, receives, tag

    def done(self):
        ranks = self.ranks
        with ranks._mail["lock"]:
            while self.receives:
                rank, tensor = self.receives[0]
                box = ranks._mail.get((rank, ranks.rank, self.tag))
                if not box:
                    return False
                tensor.copy_(box.pop(0))
                self.receives.pop(0)
        return True


def on_ranks(size, run):
    """run(ranks) on threads; what each returned, by rank."""
    mail = {"lock": threading.Lock()}
    found = [None] * size

    def work(rank):
        found[rank] = run(ThreadRanks(rank, size, mail))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.parametrize("size", [1, 5, CHUNK, CHUNK + 1, 64 * CHUNK, 64 * CHUNK + 3, 200 * CHUNK + 17])
@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_pieces_cover_an_arena_once_and_begin_at_chunks(size, ranks):
    pieces = Pieces(size, ranks)
    owned = sorted(piece for rank in range(ranks) for piece in pieces.owned(rank))
    assert owned[0][0] == 0 and owned[-1][1] == size
    assert all(end == begin for (_, end), (begin, _) in pairwise(owned))
    assert all(begin % CHUNK == 0 for begin, _ in owned)


@pytest.mark.parametrize(("size", "contributors"), [(3, 3), (3, 1), (2, 2)])
def test_sums_are_those_of_one_process_to_the_bit(rng, size, contributors):
    count = 65 * CHUNK + 40
    gradients = rng.normal(size=(size, count)).astype(np.float32) * 10.0 ** rng.integers(-6, 6, (size, count))
    gradients = gradients.astype(np.float32)
    expected = np.zeros(count, np.float32)
    for each in gradients[:contributors]:
        expected += each
    pieces = Pieces(count, size)

    def run(ranks):
        arena = _core.Tensor.zeros([count])
        if ranks.rank < contributors:
            arena.copy_(gradients[ranks.rank])
        own = pieces.owned(ranks.rank)
        total = _core.Tensor.zeros([sum(end - begin for begin, end in own)])
        between = Exchange(ranks, pieces, arena, total, {})
        between.add_gradients(None, contributors)
        assert not arena.numpy().any()
        parts = np.split(total.numpy(), np.cumsum([end - begin for begin, end in own])[:-1])
        values = _core.Tensor.zeros([count])
        tensors = []
        for (begin, end), part in zip(own, parts, strict=True):
            values.slice(begin, [end - begin]).copy_(part)
            tensors.append(values.slice(begin, [end - begin]))
        whole = between.collect(tensors, count)
        between.share(values)
        return whole, values.numpy()

    found = on_ranks(size, run)
    np.testing.assert_array_equal(found[0][0], expected)
    assert all(whole is None for whole, _ in found[1:])
    for _, values in found:
        np.testing.assert_array_equal(values, expected)


def test_all_but_the_embedding_leaves_while_backward_runs(rng, monkeypatch):
    """The embedding is tied: its gradient is complete when backward ends, those before it in the arena earlier."""
    monkeypatch.setattr(exchange, "CHUNK", 32)
    monkeypatch.setattr(exchange, "BUCKET", 64)

    ranks, sent, left = ThreadRanks(0, 2, {"lock": threading.Lock()}), [], Exchange.left

    def counted(between, functions):
        left(between, functions)
        sent.append(between._next)

    monkeypatch.setattr(Exchange, "left", counted)
    model = model_of()
    optimizer = AdamW(model, lr=1e-2, ranks=ranks)
    optimizer.backward(model.loss([[5, 6, 7, 2]], [[8, 9]]), 1)  # of rank 0 alone: it waits for nobody
    others = (optimizer.size - model.src_embedding.weight.size) // 64
    assert sent[-2:] == [others, optimizer.size // 64]


def test_sums_of_squares_are_those_of_the_norm(rng):
    values = rng.normal(size=3 * CHUNK + 5).astype(np.float32)
    tensor = _core.Tensor.zeros([values.size])
    tensor.copy_(values)
    sums = _core.square_sums(tensor)
    chunks = np.split(values.astype(np.float64), range(CHUNK, values.size, CHUNK))
    np.testing.assert_allclose(sums, [np.square(chunk).sum() for chunk in chunks], rtol=1e-13)
    norm = np.sqrt(np.add.accumulate(sums)[-1]).astype(np.float32)
    np.testing.assert_array_equal(_core.gradient_norm(tensor).numpy(), norm)


def test_a_step_of_two_batches_is_that_of_the_sum_of_gradients_computed_alone(rng):
    pairs = pairs_of(rng, 12)
    batches = [([source for source, _ in half], [target for _, target in half]) for half in (pairs[:5], pairs[5:])]
    gradients = []
    for place, batch in enumerate(batches):
        model = model_of()
        dg.random.begin_batch(place)
        model.loss(*batch, 0.1, 100).backward()
        gradients.append({name: p.grad.numpy().copy() for name, p in model.named_parameters()})

    summed = model_of()
    expected = AdamW(summed, lr=1e-2)
    for name, parameter in summed.named_parameters():
        parameter.grad = dg.tensor(gradients[0][name] + gradients[1][name])
    norm = expected.step()

    model = model_of()
    optimizer = AdamW(model, lr=1e-2)
    for place, batch in enumerate(batches):
        dg.random.begin_batch(place)
        optimizer.backward(model.loss(*batch, 0.1, 100), 2, place)
    assert optimizer.step() == norm
    for got, true in ((model, summed), (optimizer, expected)):
        for name, array in true.state_dict().items():
            np.testing.assert_array_equal(got.state_dict()[name], array, err_msg=name)
