import json
import math
import struct

import numpy as np
import pytest
from dragoman import Trainer
from dragoman.train.callbacks import Callback
from dragoman.train.tensorboard import TensorBoard, crc32c
from toy_runs import model_of

OPTIONS = {"batch_tokens": 64, "warmup": 10, "lr": 1e-2, "log_interval": 2, "checkpoint_every": 3}
pytestmark = pytest.mark.usefixtures("one_thread")


class Calls(Callback):
    def __init__(self):
        self.calls = []

    def on_begin(self, step):
        self.calls.append(("begin", step))

    def on_step(self, step, loss):
        assert loss > 0
        self.calls.append(("step", step))

    def on_record(self, record):
        self.calls.append(("final" if "final" in record else "record", record["step"]))

    def on_validation(self, record):
        assert record["valid_loss"] > 0
        self.calls.append(("validation", record["step"]))

    def on_end(self):
        self.calls.append(("end",))


def test_callbacks_are_told_in_order(pairs):
    first, second = Calls(), Calls()
    Trainer(model_of(), max_steps=4, callbacks=[first, second], **OPTIONS).fit(pairs, pairs[:5])
    assert first.calls == second.calls
    assert first.calls == [
        ("begin", 0), ("step", 1), ("step", 2), ("record", 2), ("step", 3), ("validation", 3), ("step", 4),
        ("record", 4), ("end",),
    ]  # fmt: skip


def test_a_resumed_run_begins_where_it_is(pairs, tmp_path):
    Trainer(model_of(), output=tmp_path, max_steps=5, **OPTIONS).fit(pairs)
    calls = Calls()
    Trainer(model_of(), output=tmp_path, max_steps=6, callbacks=[calls], **OPTIONS).fit(pairs, resume=True)
    assert calls.calls == [("begin", 5), ("step", 6), ("record", 6), ("final", 6), ("end",)]


def test_an_error_in_a_callback_ends_the_run_and_the_others_are_told(pairs, tmp_path):
    class Broken(Callback):
        def on_step(self, step, loss):
            if step == 4:
                raise RuntimeError("enough")

    calls = Calls()
    with pytest.raises(RuntimeError, match="enough"):
        Trainer(model_of(), output=tmp_path, max_steps=9, callbacks=[calls, Broken()], **OPTIONS).fit(pairs)
    assert calls.calls[-2:] == [("step", 4), ("end",)]
    assert (tmp_path / "checkpoints" / "step-00000003.safetensors").exists()


def test_crc32c():
    # RFC 3720, appendix B.4, and the check value of the CRC catalogues.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


def test_the_framing_of_an_event_file(tmp_path):
    board = TensorBoard(tmp_path / "events")
    board.on_begin(0)
    board.on_record({"step": 300, "loss": 2.5, "reason": "text is left out"})
    board.on_end()
    (path,) = (tmp_path / "events").iterdir()
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack_from("<Q", data)
        events.append(data[12 : 12 + length])
        for part, place in ((data[:8], 8), (events[-1], 12 + length)):
            value = crc32c(part)
            masked = ((value >> 15 | value << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32
            assert struct.unpack_from("<I", data, place) == (masked,)
        data = data[16 + length :]
    assert [event[9:11] for event in events] == [b"\x10\x00", b"\x10\xac"]
    assert events[0][11:] == b"\x1a\x0dbrain.Event:2"
    summary = b"\x0a\x11" + b"\x0a\x0atrain/loss" + b"\x15" + struct.pack("<f", 2.5)
    assert events[1][10:12] == b"\xac\x02"  # 300 as a varint
    assert events[1][12:] == b"\x2a\x13" + summary


@pytest.mark.filterwarnings("default")
def test_tensorboard_reads_what_was_written(pairs, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    class Crash(Callback):
        def on_step(self, step, loss):
            if step == 5:
                raise RuntimeError("power cut")

    options = {**OPTIONS, "log_interval": 1, "tensorboard": True, "max_steps": 8}
    with pytest.raises(RuntimeError, match="power cut"):
        Trainer(model_of(), output=tmp_path, callbacks=[Crash()], **options).fit(pairs, pairs[:9])
    records = Trainer(model_of(), output=tmp_path, **options).fit(pairs, pairs[:9], resume=True)
    assert records[0]["step"] == 4
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    with (tmp_path / "log.jsonl").open() as file:
        log = [json.loads(line) for line in file]
    steps = [record for record in log if "loss" in record]
    assert len(steps) == 8
    for name in ("loss", "lr", "gradient_norm", "epoch"):
        found = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert found == [(record["step"], np.float32(record[name])) for record in steps]
    validations = [record for record in log if "valid_loss" in record and "final" not in record]
    found = [(event.step, event.value) for event in events.Scalars("valid/loss")]
    assert found == [(record["step"], np.float32(record["valid_loss"])) for record in validations]
    assert all(math.isfinite(event.wall_time) and event.wall_time > 1e9 for event in events.Scalars("train/loss"))
