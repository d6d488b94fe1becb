"""What a search decodes with: a model, or several that decode as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from dragoman.models.decoder import TextDecoder
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.models.special_ids import end_ids, start_ids, unwritten_ids
from dragoman.models.speech import SpeechTransformer

SearchModel = EncoderDecoder | TextDecoder
SearchModels = SearchModel | Sequence[SearchModel]


def models_of(op: str, model: SearchModels) -> list[SearchModel]:
    """The models of a search, which give logits of the same tokens. TypeError, ValueError otherwise."""
    models: list[SearchModel] = list(model) if isinstance(model, list | tuple) else [cast(SearchModel, model)]
    if not models:
        raise ValueError(f"{op}: model must be a model or a list of at least one, got none")
    for each in models:
        check_model(op, each)
    if len(models) > 1 and isinstance(models[0], SpeechTransformer):
        raise ValueError(f"{op}: model must be a single SpeechTransformer, not a list of several, got {len(models)}")
    traits: dict[str, Callable[[SearchModel], Any]]
    traits = {
        "kind": _kind,
        "vocabulary size": output_size,
        "start ids": _start,
        "eos ids": _ends,
        "ids that are never written": _unwritten,
    }
    for i, each in enumerate(models):
        for name, of in traits.items():
            if of(each) != of(models[0]):
                expected = f"the same {name} as model[0], {of(models[0])}"
                raise ValueError(f"{op}: model[{i}] must have {expected}, got {of(each)}")
    return models


def check_model(op: str, model: Any) -> None:
    """TypeError unless a search can ask the model for steps."""
    if not isinstance(model, EncoderDecoder | TextDecoder):
        raise TypeError(f"{op}: model must be an EncoderDecoder or a TextDecoder, got {type(model).__name__}")


def output_size(model: SearchModel) -> int:
    """Number of tokens that an output is chosen from."""
    return int(getattr(model.config, "output_size", model.config.vocab_size))


def limit_of(op: str, model: SearchModel, length: int, max_length: int | None, started: int | None = None) -> int:
    """Maximum number of tokens of an output, for `length` tokens that the model reads first. The decoder begins with
    `started` tokens; None for those of the config. ValueError where there is room for none."""
    goes_on = isinstance(model, TextDecoder)
    side = getattr(model.config, "decoder_side", model.config)
    taken = length  # places that no token of the output has
    if not goes_on:
        taken = (len(start_ids(model.config)) if started is None else started) - 1
    room = max(int(side.max_length) - taken, 0)
    if goes_on and not room and (max_length is None or (max_length and side.positions == "learned")):
        most = f"{side.max_length - 1} tokens, one less than the config's max_length"
        raise ValueError(f"{op}: a text to continue must have at most {most}, got {length}")
    if max_length is None:
        whole = goes_on or isinstance(model, SpeechTransformer)  # the length of a source says nothing
        return room if whole else min(2 * length + 10, room)
    if side.positions == "learned" and max_length > room:
        raise ValueError(f"{op}: max_length must be at most {room}, the model's last position, got {max_length}")
    return max_length


@contextmanager
def in_inference(models: Sequence[SearchModel]) -> Iterator[None]:
    """Inside, no model has dropout or a tape."""
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(model.inference())
        yield


def _kind(model: SearchModel) -> str:
    return "decoder" if isinstance(model, TextDecoder) else "encoder-decoder"


def _start(model: SearchModel) -> tuple[int, ...]:
    return () if isinstance(model, TextDecoder) else start_ids(model.config)


def _ends(model: SearchModel) -> tuple[int, ...]:
    return end_ids(model.config)


def _unwritten(model: SearchModel) -> tuple[int, ...]:
    return unwritten_ids(model.config)
