"""Metrics: counts of requests, in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

_BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # seconds


class Metrics:
    """What the server has done; of one thread."""

    def __init__(self) -> None:
        self._requests: Counter[int] = Counter()  # by status
        self._texts = 0
        self._seconds = 0.0
        self._buckets = [0] * (len(_BOUNDS) + 1)

    def count(self, status: int, texts: int, seconds: float) -> None:
        """A request that was answered."""
        self._requests[status] += 1
        self._texts += texts
        self._seconds += seconds
        self._buckets[bisect_left(_BOUNDS, seconds)] += 1

    def text(self, waiting: int) -> str:
        """All numbers; `waiting` is how many texts wait now."""
        lines = [
            "# HELP dragoman_requests_total Requests to the model that were answered, by HTTP status.",
            "# TYPE dragoman_requests_total counter",
            *(f'dragoman_requests_total{{status="{status}"}} {n}' for status, n in sorted(self._requests.items())),
            "# HELP dragoman_texts_total Texts of requests.",
            "# TYPE dragoman_texts_total counter",
            f"dragoman_texts_total {self._texts}",
            "# HELP dragoman_waiting_texts Texts that wait for the model.",
            "# TYPE dragoman_waiting_texts gauge",
            f"dragoman_waiting_texts {waiting}",
            "# HELP dragoman_request_seconds Time from a request to the end of its answer.",
            "# TYPE dragoman_request_seconds histogram",
        ]
        total = 0
        for bound, n in zip((*map(str, _BOUNDS), "+Inf"), self._buckets, strict=True):
            total += n
            lines.append(f'dragoman_request_seconds_bucket{{le="{bound}"}} {total}')
        lines += [f"dragoman_request_seconds_sum {self._seconds:.6f}", f"dragoman_request_seconds_count {total}"]
        return "\n".join(lines) + "\n"
