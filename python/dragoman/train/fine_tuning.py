"""Training a trained model further: its usual options, learning rates that fall with depth, frozen parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from dragoman import arguments
from dragoman.nn.module import Module
from dragoman.nn.transformer import TransformerLayer
from dragoman.parameter_groups import ParameterGroup

RATE = 0.04  # over d_model, a peak learning rate


def fine_tuning_defaults(d_model: int) -> dict[str, Any]:
    """Options with which a trained model learns more, and does not lose what it knows.

    The peak is 0.04 / d_model: 5e-5 for d_model 768, 1e-5 for 4096. These lie among the rates that the field uses:
    2e-5 to 5e-5 for BERT (Devlin et al. 2019, arXiv:1810.04805), 3e-5 for BART (Lewis et al. 2020, arXiv:1910.13461),
    2e-5 for LLaMA 2 (Touvron et al. 2023, arXiv:2307.09288). A new model begins with 16 times as much.

    Args:
        d_model: of the model's config.

    Returns:
        By the names of TrainingOptions.
    """
    return {"lr": RATE / d_model, "warmup": 200, "schedule": "linear", "epochs": 3}


def layer_groups(model: Module, decay: float) -> list[ParameterGroup]:
    """Groups of parameters whose learning rates fall by a factor from each layer to the one below
    (Howard & Ruder 2018, arXiv:1801.06146).

    The last layer of a model and what comes after it, as a head, have the factor 1; the layer before has `decay`, the
    one before that its square. What comes before the first layer, as embeddings, counts as one more layer. In an
    encoder-decoder the decoder's layers come after the encoder's, and what stands between them counts with the
    encoder's last layer. Frozen parameters have no group.

    Args:
        model: with TransformerLayers.
        decay: in (0, 1].

    Returns:
        For AdamW's `groups`, the first layer's last.

    Raises:
        TypeError, ValueError: a decay out of range; a model without a TransformerLayer.
    """
    arguments.check_types("layer_groups", Module, model=model)
    decay = check_decay("layer_groups", "decay", decay)
    depths = _depths(model)
    top = max(depths.values(), default=0)
    if not top:
        raise ValueError(f"layer_groups: model must have TransformerLayers, got {type(model).__name__} without one")
    trainable = {name: depths[name] for name, p in model.named_parameters() if p.requires_grad}
    return [ParameterGroup(name, lr_scale=decay ** (top - depth)) for name, depth in trainable.items() if depth < top]


def check_decay(op: str, name: str, decay: float) -> float:
    """`decay` as a float in (0, 1]. TypeError, ValueError, with the name of the argument, otherwise."""
    value = arguments.positive(op, name, decay)
    if value > 1.0:
        raise ValueError(f"{op}: {name} must be at most 1, got {decay}")
    return value


@contextmanager
def frozen(model: Module, patterns: Sequence[str]) -> Iterator[None]:
    """Inside, the parameters whose names match one of the shell patterns are not trained.

    Raises:
        ValueError: a pattern that matches no parameter.
    """
    parameters = dict(model.named_parameters())
    matched = {pattern: [name for name in parameters if fnmatchcase(name, pattern)] for pattern in patterns}
    for pattern, names in matched.items():
        if not names:
            raise ValueError(f"Trainer: freeze must match the name of a parameter, got {pattern!r}")
    chosen = [parameters[name] for names in matched.values() for name in names if parameters[name].requires_grad]
    for parameter in chosen:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in chosen:
            parameter.requires_grad = True


def _depths(model: Module) -> dict[str, int]:
    """For each parameter the number of layers up to its own: 0 before the first layer."""
    of_layer = {
        id(parameter): number
        for number, layer in enumerate((m for _, m in model.named_modules() if isinstance(m, TransformerLayer)), 1)
        for parameter in layer.parameters()
    }
    depths, depth = {}, 0
    for name, parameter in model.named_parameters():
        depth = of_layer.get(id(parameter), depth)
        depths[name] = depth
    return depths
