"""Runs that train a part of the model."""

import numpy as np
import pytest
from dragoman import Trainer
from toy_runs import model_of

OPTIONS = {"batch_tokens": 64, "warmup": 1, "lr": 1e-2, "ema": 0.5, "final": "ema"}
pytestmark = pytest.mark.usefixtures("one_thread")


def frozen_model():
    model = model_of()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("decoder.")
    return model


def test_a_run_with_frozen_parameters_resumes_to_the_very_bits(pairs, tmp_path):
    """The final weights are the moving average of what is trained, and the frozen rest as it was."""
    before, whole = model_of().state_dict(), frozen_model()
    Trainer(whole, output=tmp_path / "whole", max_steps=6, **OPTIONS).fit(pairs)
    for name, array in whole.state_dict().items():
        assert (array != before[name]).any() == name.startswith("decoder."), name

    Trainer(frozen_model(), output=tmp_path / "broken", max_steps=3, **OPTIONS | {"final": "last"}).fit(pairs)
    resumed = frozen_model()
    Trainer(resumed, output=tmp_path / "broken", max_steps=6, **OPTIONS).fit(pairs, resume=True)
    for name, array in resumed.state_dict().items():
        np.testing.assert_array_equal(array, whole.state_dict()[name])


def test_a_run_is_not_resumed_with_other_parameters_frozen(pairs, tmp_path):
    Trainer(frozen_model(), output=tmp_path, max_steps=2, **OPTIONS).fit(pairs)
    with pytest.raises(ValueError, match=r"safetensors: AdamW: the state must hold mean\.src_embedding\.weight, which"):
        Trainer(model_of(), output=tmp_path, max_steps=4, **OPTIONS).fit(pairs, resume=True)
