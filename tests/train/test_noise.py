"""Masked tokens, spans, infilling and permuted sentences."""

import numpy as np
import pytest
from dragoman import Transformer, TransformerConfig, manual_seed
from dragoman.train import Denoising, MaskedLM, Trainer
from dragoman.train.masked_lm import mask_tokens
from dragoman.train.noise import cut_spans, fill_in, permute, random_spans
from family import OPTIONS, bits, encoder_for, tokenizer_of

MASK, SPECIALS = 299, (0, 1, 2, 3)


def masked(ids, lengths, seed=(1,), ratio=0.15):
    ids = np.asarray(ids, np.int32)
    return mask_tokens(
        ids,
        np.asarray(lengths),
        may_be_chosen=~np.isin(ids, [1, 2]),
        ratio=ratio,
        mask_id=MASK,
        random_ids=np.arange(4, MASK),
        seed=seed,
    )


def test_masks_are_berts(rng):
    """Of 40,000 tokens 15 % are chosen, of these 80 % masked, 10 % replaced, 10 % unchanged."""
    lengths = np.full(400, 102)
    ids = rng.integers(4, MASK, (400, 102))
    ids[:, 0], ids[:, -1] = 1, 2
    tokens, targets = masked(ids.ravel(), lengths)
    chosen = targets >= 0
    assert chosen.reshape(400, 102).sum(1).tolist() == [15] * 400
    assert not chosen.reshape(400, 102)[:, [0, -1]].any()
    np.testing.assert_array_equal(targets[chosen], ids.ravel()[chosen])
    np.testing.assert_array_equal(tokens[~chosen], ids.ravel()[~chosen])
    kept = (tokens == ids.ravel()) & chosen
    shares = np.array([(tokens == MASK).sum(), kept.sum()]) / chosen.sum()
    np.testing.assert_allclose(shares, [0.8, 0.1 + 0.1 / (MASK - 4)], atol=0.015)  # 4 deviations of 6,000 draws
    others = tokens[chosen & (tokens != MASK) & ~kept]
    assert others.min() >= 4
    assert len(np.unique(others)) > 200
    places = np.flatnonzero(chosen) % 102
    assert abs(places.mean() - 50.5) < 1.5  # everywhere alike
    again = masked(ids.ravel(), lengths)
    np.testing.assert_array_equal(again, (tokens, targets))
    assert (masked(ids.ravel(), lengths, (2,))[1] != targets).any()


def test_one_token_of_a_short_text_is_chosen_and_none_of_an_empty_one():
    _, targets = masked([1, 7, 2, 1, 2, 1, 8, 9, 2], [3, 2, 4])
    assert targets[1] == 7
    assert (targets[3:5] == -1).all()
    assert (targets[5:] >= 0).sum() == 1


def test_a_batch_of_masked_lm_knows_the_models_special_tokens():
    task = MaskedLM(tokenizer_of(), ratio=0.9)
    model = encoder_for(task)
    ids = [1, *range(10, 60), 2]
    batch = task.batch({"tokens": [ids, [1, 10, 2]]}, model, (3, 1))
    tokens = np.concatenate([*map(np.array, batch.columns["tokens"])])
    assert model.config.mask_id == task.vocab_size - 1
    assert (tokens == model.config.mask_id).sum() > 30
    assert not np.isin(tokens[1:51], SPECIALS).any()
    assert batch.num_targets == 45 + 1
    assert batch.columns == task.batch({"tokens": [ids, [1, 10, 2]]}, model, (3, 1)).columns


def test_spans_of_the_papers_example():
    """Raffel et al. 2020, figure 2."""
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
    ids = list(range(len(words)))
    noise = np.isin(words, ["for", "inviting", "last"])
    names = {i: word for i, word in enumerate(words)} | {99: "<X>", 98: "<Y>", 97: "<Z>"}
    source, target = cut_spans(ids, noise, range(99, 90, -1))
    assert " ".join(names[id] for id in source) == "Thank you <X> me to your party <Y> week ."
    assert " ".join(names[id] for id in target) == "<X> for inviting <Y> last <Z>"
    with pytest.raises(ValueError, match="sentinels must be more than 2, the spans of a text, got 2"):
        cut_spans(ids, noise, [99, 98])


def test_random_spans_have_the_papers_density_and_length(rng):
    noise = [random_spans(500, 0.15, 3.0, rng) for _ in range(50)]
    assert {int(each.sum()) for each in noise} == {75}
    assert {int((each[1:] & ~each[:-1]).sum()) + int(each[0]) for each in noise} == {25}
    assert all(each[-1] and not each[0] for each in noise)
    shares = np.mean(noise, 0)
    assert shares[50:450].std() < 0.1
    for length in (2, 3, 5, 7):
        for density in (0.0, 0.5, 0.99):
            each = random_spans(length, density, 1.0, rng)
            assert len(each) == length
            assert 1 <= each.sum() < length


def test_infilling_masks_a_share_of_the_tokens_in_poisson_spans(rng):
    ids = list(range(10, 1010))
    lost, masks = [], []
    for _ in range(40):
        noisy = fill_in(ids, 0.3, 3.0, 5, rng)
        kept = [id for id in noisy if id != 5]
        assert kept == sorted(set(kept))
        lost.append(1000 - len(kept))
        masks.append(noisy.count(5))
    assert np.mean(lost) == pytest.approx(300, abs=6)  # a span that finds no room is given up
    assert np.mean(masks) == pytest.approx(100, abs=6)  # 300 / 3, with those of length 0
    assert fill_in([], 0.3, 3.0, 5, rng) == []
    assert fill_in([7], 0.9, 3.0, 5, rng) in ([5], [5, 5], [5, 5, 5], [5, 7], [7])


def test_permuted_sentences(rng):
    ids, lengths = [1, 2, 3, 4, 5, 6], [2, 1, 3]
    found = {tuple(permute(ids, lengths, rng)) for _ in range(60)}
    assert len(found) == 6
    assert (4, 5, 6, 1, 2, 3) in found


def model_of(task):
    manual_seed(0)
    sizes = {"d_model": 16, "num_heads": 2, "d_ff": 32, "num_encoder_layers": 1, "num_decoder_layers": 1}
    return Transformer(TransformerConfig(**sizes, **task.config_fields()))


@pytest.mark.parametrize("noise", ["spans", "infilling"])
def test_denoising_trains_and_resumes(noise, rng, one_thread, tmp_path):
    task = Denoising(tokenizer_of(), noise=noise, sentinels=20)
    texts = ["the dog runs. the cat sleeps! they sing", "the bird is fine.", "a"] * 8
    options = {"task": task, "checkpoint_every": 3, **OPTIONS, "batch_tokens": 100}
    whole, again = model_of(task), model_of(task)
    records = Trainer(whole, output=tmp_path / "whole", max_steps=6, **options).fit(texts, texts[:2])
    Trainer(model_of(task), output=tmp_path / "parts", max_steps=4, **options).fit(texts, texts[:2])
    Trainer(again, output=tmp_path / "parts", max_steps=6, **options).fit(texts, texts[:2], resume=True)
    assert records[-1]["valid_perplexity"] > 1
    assert bits(whole) == bits(again)
    task = Denoising.load(tmp_path / "whole")
    assert task.settings() == {"noise": noise, "density": task.density, "mean_span": 3.0, "sentinels": 20}


def test_a_batch_of_each_noise():
    tokenizer = tokenizer_of()
    text = "the dog runs. the cat sleeps!"
    task = Denoising(tokenizer, sentinels=20)
    model = model_of(task)
    rows = task.encode([text])
    ids = rows["tokens"][0]
    batch = task.batch(rows, model, (0, 1))
    source, target = batch.columns["source"][0], batch.columns["target"][0]
    first = tokenizer.vocab_size + 19
    assert source[-1] == 2
    assert [id for id in source if id > first - 20] == [id for id in target if id > first - 20][:-1]
    assert sorted(id for id in source[:-1] + target if id <= first - 20) == sorted(ids)
    assert batch.num_targets == len(target) + 1
    task = Denoising(tokenizer, noise="infilling", sentinels=20)
    rows = task.encode([text])
    assert [tokenizer.decode(ids) for ids in (rows["tokens"][0][: rows["sentences"][0][0]],)] == ["the dog runs."]
    batch = task.batch(rows, model, (0, 1))
    assert batch.columns["target"] == [rows["tokens"][0]]
    assert first in batch.columns["source"][0]
    for name, value in (("noise", "salt"), ("density", 1.0), ("mean_span", 0.5), ("sentinels", 1)):
        with pytest.raises(ValueError, match=f"Denoising: {name} must"):
            Denoising(tokenizer, **{name: value})
