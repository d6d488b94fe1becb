"""SpeechTransformer: convolutions beside their definition, training, searches, folders."""

from math import erf

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import Generation, SearchOptions, generate, score
from dragoman.generate.recorded import replayed_steps
from dragoman.generate.steps import EagerSteps
from dragoman.models import SpeechConfig, SpeechTransformer
from dragoman.models.folder import load_with
from dragoman.optim import AdamW
from huggingface_folders import losses
from speech import ROWS, SIZES, frames_of, speech_model

pytestmark = pytest.mark.usefixtures("one_thread")


def convolved(x, weight, bias, stride):
    """(rows, inputs) -> (rows / stride, outputs): a convolution over three rows with zeros around, and GELU."""
    padded = np.pad(x, ((1, 1), (0, 0)))
    kernel = weight.reshape(len(weight), 3, -1)  # (outputs, 3, inputs)
    rows = range(0, len(x), stride)
    y = np.stack([np.einsum("oki,ki->o", kernel, padded[t : t + 3]) + bias for t in rows])
    return 0.5 * y * (1 + np.vectorize(erf)(y / np.sqrt(2)))


def test_the_encoder_reads_what_convolutions_give(rng):
    model = speech_model(num_encoder_layers=1).eval()
    model.encoder.layers.clear()  # the convolutions, positions and the last norm are left
    state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    batch = frames_of(rng, 8, 2, 2 * ROWS)
    values, sequences = model.pack_source("test", batch)
    assert sequences.lengths == [4, 1, ROWS]
    expected = []
    for frames in batch:
        x = convolved(frames.astype(np.float64), state["conv1.weight"], state["conv1.bias"], 1)
        x = (
            convolved(x, state["conv2.weight"], state["conv2.bias"], 2)
            + state["src_positions.weight"][: len(frames) // 2]
        )
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        expected.append(x * state["encoder.norm.weight"] + state["encoder.norm.bias"])
    with model.inference():
        found = model.encode(values, sequences).numpy()
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=0, atol=2e-5)


def test_a_source_does_not_depend_on_its_neighbours(rng):
    model = speech_model().eval()
    batch = frames_of(rng, 6, 60, 14)
    targets = [[3, 5, 6], [3], [3, 4, 5, 6, 7]]
    whole = model.logits(batch, targets)
    single = [model.logits([frames], [ids]) for frames, ids in zip(batch, targets, strict=True)]
    np.testing.assert_allclose(whole, np.concatenate(single), rtol=0, atol=1e-5)


def test_gradients_reach_every_parameter_and_are_right(rng):
    model = speech_model(d_model=4, d_ff=4, encoder={"num_heads": 2, "max_length": 6})
    batch, targets = frames_of(rng, 6, 12), [[5, 7], [4]]
    AdamW(model, lr=0.0)
    model.loss(batch, targets, label_smoothing=0.0).backward()
    for name, parameter in list(model.named_parameters()):
        gradient = parameter.grad.numpy()
        if name.endswith("k_proj.bias"):
            continue
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        assert gradient[place] != 0, name
        values, step, losses = parameter.numpy().copy(), 1e-2, []
        for sign in (1, -1):
            changed = values.copy()
            changed[place] += sign * step
            parameter.copy_(changed)
            with model.inference():
                losses.append(float(model.loss(batch, targets, label_smoothing=0.0).numpy()))
        parameter.copy_(values)
        np.testing.assert_allclose((losses[0] - losses[1]) / (2 * step), gradient[place], rtol=3e-2, atol=3e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("adapters", [False, True])
def test_training_lowers_the_loss(dtype, adapters, rng):
    model = speech_model()
    if dtype == "bfloat16":
        model = SpeechTransformer(model.config, dtype)
    if adapters:
        dg.lora.add(model, rank=4)
    batch, targets = frames_of(rng, 20, 8, 32), [[5, 7, 9], [4], [8, 8, 6, 5]]
    found = losses(model, 2e-2, batch, targets)
    assert found[-1] < 0.8 * found[0]


def test_searches_run_natively_with_the_tokens_of_a_search_without_cache(rng):
    model = speech_model().eval()
    batch = frames_of(rng, 20, 60, 8)
    assert replayed_steps(model) is not None
    for frames, hypotheses in zip(batch, generate(model, batch, max_length=9), strict=True):
        ids = [3]
        while len(ids) < 10:
            ids.append(int(model.logits([frames], [ids])[-1].argmax()))
            if ids[-1] == 2:
                break
        assert hypotheses[0].ids == [id for id in ids[1:] if id != 2]
        found = score(model, [frames], [hypotheses[0].ids], ended=ids[-1] == 2)[0]
        np.testing.assert_allclose(found.sum_logprob, hypotheses[0].sum_logprob, rtol=1e-5)


def test_eager_and_native_steps_agree_where_requests_come_and_go(rng, monkeypatch):
    model = speech_model().eval()
    batch = frames_of(rng, 20, 60, 8, 4)

    def run():
        generation = Generation(model)
        options = SearchOptions(beam=3, max_length=7)
        keys = [generation.add(frames, options) for frames in batch[:2]]
        generation.step()
        keys += [generation.add(frames, options) for frames in batch[2:]]
        found = generation.run()
        return [[(h.ids, round(h.score, 4)) for h in found[key]] for key in keys]

    native = run()
    monkeypatch.setattr("dragoman.generate.steps.replayed_steps", lambda model: None)
    assert run() == native
    assert isinstance(EagerSteps(model), EagerSteps)


def test_the_room_of_an_output_is_that_of_the_positions(rng):
    model = speech_model(vocab_size=8, max_length=6).eval()
    (best,) = generate(model, frames_of(rng, 4), suppress=[2])[0]
    assert best.length == 6
    with pytest.raises(ValueError, match=r"max_length must be at most 6"):
        generate(model, frames_of(rng, 4), max_length=7)


def test_a_folder_keeps_every_bit(rng, tmp_path, device):
    model = speech_model().eval()
    model.save(tmp_path)
    loaded = dg.load(tmp_path).to(device)
    assert type(loaded) is SpeechTransformer and loaded.config == model.config
    batch, targets = frames_of(rng, 8), [[3, 4]]
    np.testing.assert_array_equal(loaded.logits(batch, targets), model.logits(batch, targets))


FROZEN = [pytest.param("int8", 0.1, marks=pytest.mark.cpu), ("bfloat16", 0.03), ("float32", 1e-5)]


@pytest.mark.parametrize(("dtype", "bar"), FROZEN)
def test_frozen(dtype, bar, rng, tmp_path, device):
    model = speech_model().eval()
    batch, targets = frames_of(rng, 20, 8), [[3, 4, 5], [3, 6]]
    plain = model.logits(batch, targets)
    model.freeze(dtype).save(tmp_path)
    frozen = model.logits(batch, targets)
    assert abs(frozen - plain).max() <= bar * abs(plain).max()
    np.testing.assert_array_equal(load_with("load", tmp_path, {}, device).logits(batch, targets), frozen)
    assert generate(model, batch, max_length=5)


def test_a_plan_of_memory(rng):
    model = speech_model()
    assert model.memory_plan((100, 40))["activations"] > model.memory_plan((20, 10))["activations"] > 0
    frames, targets = model.example_batch((70, 10))
    assert sum(map(len, frames)) == 140 and all(len(f) % 2 == 0 and len(f) <= 2 * ROWS for f in frames)
    assert sum(map(len, targets)) + len(targets) == 10


def test_attention_weights(rng):
    found = speech_model().attention_weights(frames_of(rng, 8)[0], [3, 4])
    assert found["encoder"][0].shape == (3, 4, 4)
    assert found["cross"][1].shape == (2, 2, 4)


def test_other_sources_are_refused(rng):
    model = speech_model().eval()
    bins = SIZES["mel_bins"]
    for bad, error in (
        ([[1, 2]], r"src_batch\[0\] must be a float32 array of frames, got list"),
        ([np.zeros((4, bins))], r"src_batch\[0\] must be a float32 array of frames, got dtype float64"),
        (3, "src_batch must be a list of arrays of frames, got int"),
    ):
        with pytest.raises(TypeError, match=rf"^logits: {error}"):
            model.logits(bad, [[3]])
    for shape in ((4, bins + 1), (3, bins), (0, bins), (4,)):
        with pytest.raises(ValueError, match=r"src_batch\[0\] must have shape \(frames, 5\) with an even number"):
            generate(model, [np.zeros(shape, np.float32)])
    with pytest.raises(ValueError, match=r"src_batch\[1\] must have at most 60 frames, got 62"):
        model.logits(frames_of(rng, 2, 62), [[3], [3]])
    with pytest.raises(ValueError, match=r"model must be a single SpeechTransformer, not a list of several, got 2"):
        generate([model, model], frames_of(rng, 4))
    with pytest.raises(ValueError, match=r"encode: src_ids must be frames of shape \(8, 5\)"):
        model.encode(np.zeros((7, bins), np.float32), dg.Sequences([4]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mel_bins": 0}, "mel_bins"),
        ({"tie_embeddings": "three"}, "tie_embeddings"),
        ({"tie_embeddings": np.zeros(0)}, "tie_embeddings"),
        ({"tgt_vocab_size": 29, "tie_embeddings": "none"}, "tgt_vocab_size"),
        ({"max_source_length": 9}, "max_source_length"),
    ],
)
def test_configs_that_do_not_fit(fields, message):
    with pytest.raises(ValueError, match=rf"^SpeechConfig: {message} must be"):
        speech_model(**fields)
    assert SpeechConfig.from_dict(speech_model().config.to_dict()) == speech_model().config


@pytest.mark.cpu
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_another_device_has_the_bits_of_the_cpu(compute_dtype, rng):
    batch, targets = frames_of(rng, 20, 8), [[5, 7, 9], [4]]
    results = []
    for device in ("cpu", "test"):
        model = SpeechTransformer(speech_model().config, compute_dtype)
        model.load_state_dict(speech_model().state_dict())
        model.to(device)
        optimizer = AdamW(model, 0.01)
        loss = model.loss(batch, targets)
        loss.backward()
        found = [optimizer.step(), loss.item(), model.logits(batch, targets).tobytes()]
        found += [generate(model, batch, beam=beam, max_length=6) for beam in (1, 3)]
        results.append(found)
    assert results[0] == results[1]
