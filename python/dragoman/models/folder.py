"""The folder a model is kept in: model.safetensors and config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dragoman import arguments
from dragoman.models.config import TransformerConfig
from dragoman.models.encoder_decoder import CONFIG, WEIGHTS, Transformer
from dragoman.nn.init import skip_init


def load(folder: str | Path) -> Transformer:
    """The model that `Transformer.save` wrote, in inference mode.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: naming the file and what in it does not fit.
    """
    arguments.check_path("load", "folder", folder)
    folder = Path(folder)
    config = _read_config(folder / CONFIG)
    path = folder / WEIGHTS
    try:
        state = load_file(path)
        _check_sizes(config, state)
        with skip_init():
            model = Transformer(config)
        model.load_state_dict(state)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return model.eval()


def _read_config(path: Path) -> TransformerConfig:
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError(f"must hold an object, got {type(values).__name__}")
        return TransformerConfig.from_dict(values)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None


def _check_sizes(config: TransformerConfig, state: dict[str, npt.NDArray[Any]]) -> None:
    """Refuses a config larger than its weights before memory is taken for it."""
    linear1 = "feed_forward.linear1.weight"
    shapes = {
        "src_embedding.weight": (config.vocab_size, config.d_model),
        f"encoder.layers.{config.num_encoder_layers - 1}.{linear1}": (config.d_ff, config.d_model),
        f"decoder.layers.{config.num_decoder_layers - 1}.{linear1}": (config.d_ff, config.d_model),
    }
    if config.tie_embeddings != "three":
        shapes["tgt_embedding.weight"] = (config.output_size, config.d_model)
    if config.positions == "learned":
        shapes["src_positions.weight"] = (config.max_length, config.d_model)
    for name, shape in shapes.items():
        if name not in state:
            raise ValueError(f"{name} is missing, which {CONFIG} asks for")
        if state[name].shape != shape:
            raise ValueError(f"{name} must have shape {shape} as {CONFIG} says, got {state[name].shape}")
