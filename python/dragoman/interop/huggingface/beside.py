"""What lies beside the weights and config.json and changes what a model computes: modules of sentence-transformers, and
how images are prepared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dragoman.interop.huggingface.family import Layout
from dragoman.interop.huggingface.preprocessor import read_preprocessor, written_preprocessor
from dragoman.interop.huggingface.sentence_transformers import module_files, with_modules
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import EncoderConfig, Model, TextEncoder, VisionConfig, VisionTransformer


def with_files_beside(folder: Path, layout: Layout, tensors: Tensors) -> Layout:
    """A layout with what the other files of its folder add.

    Raises:
        OSError: a file cannot be read.
        ValueError: naming the file and what in it is not understood.
    """
    config = layout.config
    if isinstance(config, EncoderConfig) and config.head == "none":
        return with_modules(folder, layout, tensors)
    if isinstance(config, VisionConfig):
        return replace(layout, config=replace(config, **read_preprocessor(folder, config.image_size)))
    return layout


def files_beside(model: Model, model_type: str) -> dict[str, list[Any]]:
    """These files for a model, in parts, by their names in its folder."""
    if isinstance(model, TextEncoder) and model.config.head == "none":
        return module_files(model)
    if isinstance(model, VisionTransformer):
        return written_preprocessor(model_type, model.config)
    return {}
