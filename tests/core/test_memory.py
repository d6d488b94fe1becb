"""memory_plan against the allocator's counts in a real step."""

import dataclasses

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core

pytestmark = pytest.mark.cpu

CONFIGS = {
    "tiny": (dg.TransformerConfig.tiny(vocab_size=3000), [17] * 40, [23] * 40, "float32"),
    "pre-norm": (dg.TransformerConfig.small(norm_first=True, activation="gelu"), [30] * 20, [9] * 20, "float32"),
    "ragged": (dg.TransformerConfig.small(), list(range(1, 41)), list(range(40, 0, -1)), "float32"),
    "bfloat16": (dg.TransformerConfig.small(), [32] * 32, [32] * 32, "bfloat16"),
    "untied": (
        dg.TransformerConfig.tiny(tie_embeddings="none", tgt_vocab_size=5000, output_bias=True, positions="learned"),
        [50] * 30,
        [40] * 30,
        "bfloat16",
    ),
}  # fmt: skip


def peak_of_steps(config: dg.TransformerConfig, source: list[int], target: list[int], compute_dtype: str) -> int:
    """The allocator's peak in two steps, without what was in use before."""
    before = dg.memory_stats()["allocated"]
    model = dg.Transformer(config, compute_dtype)
    optimizer = dg.optim.AdamW(model, lr=1e-4)
    batch = [[[5] * n for n in source], [[6] * (n - 1) for n in target]]
    for _ in range(2):
        _core.reset_peak_memory_stats()
        model.loss(*batch).backward()
        optimizer.step()
    return dg.memory_stats()["peak_allocated"] - before


@pytest.mark.parametrize("name", CONFIGS)
def test_the_plan_is_within_a_tenth_of_the_allocators_peak(name: str) -> None:
    config, source, target, compute_dtype = CONFIGS[name]
    measured = peak_of_steps(config, source, target, compute_dtype)
    plan = dg.Transformer(config).memory_plan((sum(source), sum(target)), compute_dtype)
    assert plan["peak"] == pytest.approx(measured, rel=0.1)
    assert plan["peak"] == sum(size for part, size in plan.items() if part != "peak")


def test_a_plan_leaves_no_trace() -> None:
    model = dg.Transformer(dg.TransformerConfig.tiny())
    weights = {name: array.copy() for name, array in model.state_dict().items()}
    state, stats = dg.random.get_state(), dg.memory_stats()
    model.memory_plan(tokens=500)
    assert dg.random.get_state() == state
    assert dg.memory_stats()["allocated"] == stats["allocated"]
    assert dg.memory_stats()["reserved"] == stats["reserved"]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, weights[name])
        assert model.output.weight.grad is None


def test_bfloat16_halves_the_activations() -> None:
    model = dg.Transformer(dg.TransformerConfig.base())
    plans = {dtype: model.memory_plan(4096, dtype) for dtype in ("float32", "bfloat16")}
    assert plans["bfloat16"]["activations"] < 0.62 * plans["float32"]["activations"]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_dropout_after_the_activation_takes_no_memory(activation: str) -> None:
    plain = dg.TransformerConfig.small(activation=activation).with_dropout(0.0)
    dropped = dataclasses.replace(plain, activation_dropout=0.1)
    plans = [dg.Transformer(config).memory_plan(4096)["activations"] for config in (plain, dropped)]
    assert plans[1] == plans[0]


@pytest.mark.parametrize("tokens", [0, -1, (5, 0), 2.5, "many", None])
def test_tokens_must_be_ints_above_0(tokens: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"memory_plan: tokens must be (an int|at least 1)"):
        dg.Transformer(dg.TransformerConfig.tiny()).memory_plan(tokens)  # type: ignore[arg-type]


def test_an_unknown_compute_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="compute_dtype must be one of float32, bfloat16, got 'float16'"):
        dg.Transformer(dg.TransformerConfig.tiny()).memory_plan(8, "float16")


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_ranks_share_the_moments_and_the_sum_of_gradients(compute_dtype: str) -> None:
    model = dg.Transformer(dg.TransformerConfig.tiny(), compute_dtype=compute_dtype)
    alone, third = model.memory_plan(64), model.memory_plan(64, ranks=3)
    weights = alone["parameters"] // 4
    copies = 2 * weights if compute_dtype == "bfloat16" else 0
    assert alone["optimizer"] == pytest.approx(8 * weights + copies, rel=0.02)
    assert third["optimizer"] == pytest.approx(12 * weights / 3 + copies, rel=0.1)  # cut at multiples of 16384
    assert third["peak"] - alone["peak"] == third["optimizer"] - alone["optimizer"]
    with pytest.raises(ValueError, match="memory_plan: ranks must be at least 1, got 0"):
        model.memory_plan(64, ranks=0)
