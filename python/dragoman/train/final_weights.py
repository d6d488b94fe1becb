"""The weights of the model after a run, as the option `final` names them."""

from __future__ import annotations

from dragoman.nn.module import Module
from dragoman.train.averaging import ExponentialAverage, average_checkpoints
from dragoman.train.callbacks import Record
from dragoman.train.checkpoint import Arrays, CheckpointFile
from dragoman.train.store import RunStore
from dragoman.train.validation import Ranking, Validation


def final_weights(
    final: str, model: Module, ema: ExponentialAverage | None, store: RunStore, best_step: int | None
) -> Arrays | None:
    """The weights that the option names, None for those of the last step. All ranks call it together."""
    checkpoints = store.checkpoints
    if final == "ema" and ema is not None:
        return model.state_dict() | ema.state_dict()
    if final == "best" and checkpoints is not None and best_step is not None:
        return CheckpointFile(checkpoints.path(best_step)).part("model")
    if final == "average" and checkpoints is not None:
        names = store.ranks.gather([path.name for path in checkpoints.to_average()])[0]  # as the writer sees them
        if len(names) > 1:
            return average_checkpoints([checkpoints.folder / name for name in names])
    return None


def put_weights(final: str, model: Module, weights: Arrays, validation: Validation | None, ranking: Ranking) -> Record:
    """Puts the weights into the model; returns what they are, and their scores. An average must not be worse than the
    weights that the model has: then they stay, "last"."""
    last = model.state_dict()
    scores = None if validation is None or final != "average" else validation()
    model.load_state_dict(weights)
    record: Record = {"final": final}
    if validation is not None:
        record |= validation()
        if scores is not None and ranking.is_better(scores, ranking.score(record)):
            model.load_state_dict(last)
            record = {"final": "last", **scores}
    return record
