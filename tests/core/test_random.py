"""Philox against its published vectors, and the state of dragoman.random."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman import _core


@pytest.mark.parametrize(
    ("counter", "seed", "expected"),
    [
        # The known-answer vectors of Random123 (Salmon et al. 2011), philox4x32-10.
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_reference_philox_gives_the_published_vectors(counter, seed, expected):
    assert tuple(reference.philox(seed, np.array(counter, np.uint32))) == expected


def draw():
    return dg.functional.dropout(dg.tensor(np.ones((64, 64), np.float32)), 0.5).numpy()


def test_same_seed_same_masks():
    dg.manual_seed(3)
    first = [draw(), draw()]
    dg.manual_seed(3)
    for mask in first:
        np.testing.assert_array_equal(draw(), mask)
    dg.manual_seed(4)
    assert (draw() != first[0]).any()


def test_masks_differ_between_calls_and_between_steps():
    first, second = draw(), draw()
    dg.manual_seed(0)
    dg.random.advance_step()
    next_step = draw()
    for a, b in [(first, second), (first, next_step), (second, next_step)]:
        assert 0.4 < (a != b).mean() < 0.6


def test_state_goes_through_json():
    draw(), dg.random.advance_step(), draw(), dg.random.generator().standard_normal(3)
    state = json.loads(json.dumps(dg.random.get_state()))
    expected = draw(), dg.random.generator().standard_normal(5)
    dg.manual_seed(99)
    dg.random.set_state(state)
    np.testing.assert_array_equal(draw(), expected[0])
    np.testing.assert_array_equal(dg.random.generator().standard_normal(5), expected[1])


def test_numpy_generator_follows_the_seed():
    dg.manual_seed(5)
    first = dg.random.generator().standard_normal(4)
    dg.manual_seed(5)
    np.testing.assert_array_equal(dg.random.generator().standard_normal(4), first)


def test_a_forward_pass_runs_again_with_the_same_masks(rng):
    """In the middle of a step, with calls before and after; the stream goes on as if nothing had run twice."""
    config = dg.TransformerConfig.tiny()
    model, sources, targets = dg.Transformer(config), [[4, 5, 6]], [[7, 8]]

    def forward():
        return model.loss(sources, targets).numpy().tobytes()

    draw()
    position = dg.random.mask_position()
    first, after = forward(), draw()
    end = dg.random.mask_position()
    with dg.random.masks_from(position):
        assert forward() == first
        np.testing.assert_array_equal(draw(), after)
        with dg.random.masks_from(position):
            assert forward() == first
    assert dg.random.mask_position() == end
    assert forward() != first
    dg.random.advance_step()
    with dg.random.masks_from(position):
        assert forward() == first


def test_masks_of_other_threads_go_on_while_one_replays():
    position, first, second = dg.random.mask_position(), draw(), draw()
    dg.manual_seed(0)
    with dg.random.masks_from(position), ThreadPoolExecutor(1) as other:
        draw(), draw(), draw()
        np.testing.assert_array_equal(other.submit(draw).result(), first)
        np.testing.assert_array_equal(other.submit(draw).result(), second)


def test_masks_are_replayed_from_a_position_only():
    with pytest.raises(TypeError, match="masks_from: position must be a MaskPosition, got dict"):
        dg.random.masks_from({}).__enter__()


def test_a_replay_draws_the_masks_of_its_own_step(rng):
    """With the step baked in, every replay of a recorded training step would repeat its masks."""
    x = dg.tensor(rng.standard_normal((5, 2, 64)).astype(np.float32))
    sequences = dg.Sequences([3, 2])

    def run(x):
        y = dg.functional.attention(x, x, x, sequences, sequences, dropout=0.25)
        return dg.functional.dropout(y.reshape(5, 128), 0.5)

    def eager(step):
        dg.manual_seed(7)
        for _ in range(step):
            dg.random.advance_step()
        return run(x).numpy()

    dg.manual_seed(7)
    recorder = _core.Recorder()
    try:
        program = recorder.finish([x.data], [run(x).data])
    finally:
        recorder.stop()
    replay = lambda: dg.Tensor(program.replay([x.data])[0]).numpy()  # noqa: E731
    expected = [eager(step) for step in range(3)]
    assert (expected[0] != expected[1]).any()
    np.testing.assert_array_equal(replay(), expected[2])  # where `eager` left the state
    state = dg.random.get_state()
    dg.manual_seed(7)
    for array in expected:
        np.testing.assert_array_equal(replay(), array)
        dg.random.advance_step()
    dg.random.set_state(state)
    np.testing.assert_array_equal(replay(), expected[2])


def test_a_backward_after_the_step_draws_the_mask_of_its_forward(rng):
    """Outside a record the mask stays that of its step: the gradient must be 0 where the output is."""
    x = dg.tensor(rng.standard_normal((1, 4096)).astype(np.float32), requires_grad=True)
    y = dg.functional.dropout(x, 0.5)
    loss = dg.functional.linear(y, dg.tensor(np.ones((1, 4096), np.float32))).reshape()
    dg.random.advance_step()
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy() == 0, y.numpy() == 0)


def test_a_replay_on_a_device_reads_the_step_from_its_memory(rng):
    x = dg.tensor(rng.standard_normal((4, 64)).astype(np.float32), device="test")
    recorder = _core.Recorder()
    try:
        program = recorder.finish([x.data], [dg.functional.dropout(x, 0.5).data])
    finally:
        recorder.stop()
    masks = []
    for _ in range(2):
        before = _core.test_device_counts()
        result = program.replay([x.data])[0]
        assert _core.test_device_counts()["uploads"] == before["uploads"]
        state = dg.random.get_state()
        dg.random.set_state(state | {"next_id": 0})
        masks.append(dg.functional.dropout(x, 0.5).numpy())
        np.testing.assert_array_equal(dg.Tensor(result).numpy(), masks[-1])
        dg.random.advance_step()
    assert (masks[0] != masks[1]).any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_draws_masks_that_another_thread_was_drawing():
    with dg.random._drawing:
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # ends a child that waits for the lock
            dg.random.next_dropout(0.5)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
