"""One part of a JSON value in another form, for lists of damages that are made by hand."""

import json
from copy import deepcopy

GONE = object()


def with_part(values, path, part):
    """A copy of `values` whose part at `path`, "model.merges.0" or a tuple, is `part`, or is left out if it is GONE."""
    values = deepcopy(values)
    *parents, last = path.split(".") if isinstance(path, str) else path
    place = values
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    last = int(last) if isinstance(place, list) else last
    if part is GONE:
        del place[last]
    else:
        place[last] = part
    return values


def text_of(values):
    return json.dumps(values, ensure_ascii=False).encode()
