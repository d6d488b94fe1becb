"""Scaled rotary positions: the frequencies against the papers' formulas, pair by pair, and against transformers."""

import math

import numpy as np
import pytest
from dragoman.nn.rotary import check_scaling, rotary_frequencies, rotary_table

SCALINGS = {
    "linear": {"type": "linear", "factor": 2.5},
    "ntk": {"type": "ntk", "factor": 4},
    "llama3": {"type": "llama3", "factor": 8.0, "original_max_length": 64},
    "llama3, other bands": {
        **{"type": "llama3", "factor": 32, "original_max_length": 512},
        **{"low_freq_factor": 2.0, "high_freq_factor": 3.5},
    },
    "yarn": {"type": "yarn", "factor": 4.0, "original_max_length": 256},
    "yarn, other bands": {
        **{"type": "yarn", "factor": 16, "original_max_length": 128},
        **{"beta_fast": 8, "beta_slow": 2, "attention_factor": 1.5},
    },
}
CASES = [(scaling, features, base) for scaling in SCALINGS for features in (4, 6, 64) for base in (100.0, 1e4, 5e5)]


def frequency(pair, features, base, scaling):
    """Of one pair, from the papers."""
    plain, factor = base ** (-2 * pair / features), scaling["factor"]
    if scaling["type"] == "linear":
        return plain / factor
    if scaling["type"] == "ntk":
        return (base * factor ** (features / (features - 2))) ** (-2 * pair / features)
    length = scaling["original_max_length"]
    if scaling["type"] == "llama3":
        wave, low, high = 2 * math.pi / plain, scaling["low_freq_factor"], scaling["high_freq_factor"]
        if wave < length / high:
            return plain
        if wave > length / low:
            return plain / factor
        smooth = (length / wave - low) / (high - low)
        return (1 - smooth) * plain / factor + smooth * plain

    def place(turns):
        return features * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

    first, last = (
        max(math.floor(place(scaling["beta_fast"])), 0),
        min(math.ceil(place(scaling["beta_slow"])), features - 1),
    )
    slowed = min(max((pair - first) / ((last - first) or 0.001), 0), 1)
    return plain / factor * slowed + plain * (1 - slowed)


@pytest.mark.parametrize(("name", "features", "base"), CASES)
def test_frequencies(name, features, base):
    scaling = check_scaling("test", "scaling", SCALINGS[name])
    actual, magnitude = rotary_frequencies(features, base, scaling)
    expected = [frequency(pair, features, base, scaling) for pair in range(features // 2)]
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    plain = 0.1 * math.log(scaling["factor"]) + 1 if name == "yarn" else 1.5 if name.startswith("yarn") else 1.0
    assert magnitude == pytest.approx(plain)
    table = rotary_table(40, features, base, scaling)
    angles = np.arange(40)[:, None] * np.array(expected)
    np.testing.assert_allclose(table, plain * np.hstack([np.cos(angles), np.sin(angles)]), atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("name", [name for name in SCALINGS if name != "ntk"])
def test_frequencies_are_those_of_transformers(name):
    transformers = pytest.importorskip("transformers")
    rope = pytest.importorskip("transformers.modeling_rope_utils")
    scaling = check_scaling("test", "scaling", SCALINGS[name])
    names = {"type": "rope_type", "original_max_length": "original_max_position_embeddings"}
    values = {names.get(key, key): value for key, value in scaling.items()} | {"rope_theta": 1e4}
    if not values.get("attention_factor", True):
        del values["attention_factor"]
    config = transformers.LlamaConfig(hidden_size=128, num_attention_heads=2, rope_parameters=values)
    expected, factor = rope.ROPE_INIT_FUNCTIONS[values["rope_type"]](config, "cpu")
    actual, magnitude = rotary_frequencies(64, 1e4, scaling)
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-5)
    assert magnitude == pytest.approx(factor)
