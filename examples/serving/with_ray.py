"""Two replicas of a translator on one machine, with Ray Serve: each has half of the cores, Ray shares out the requests.

pip install 'dragoman[text]' 'ray[serve]'
python examples/serving/with_ray.py DIR [--port 8000]

    curl -d '{"text": "A man is reading."}' http://localhost:8000/

One process with all cores is simpler, and merges the requests of all clients into its batches. Replicas serve more
requests a second where batches are small, and go on when one of them fails.
"""

import argparse
import asyncio
import os
import signal
import sys
from typing import Any

import dragoman as dg
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

REPLICAS = 2


@serve.deployment(num_replicas=REPLICAS, max_ongoing_requests=64)
class Replica:
    """One translator. It merges the requests that Ray gives it at a time into batches."""

    def __init__(self, folder: str, threads: int) -> None:
        dg.set_num_threads(threads)
        self._translator = dg.Translator.load(folder)

    async def __call__(self, request: Request) -> JSONResponse:
        try:
            text = (await request.json())["text"]
            future = self._translator.submit(text, max_length=512)
        except (KeyError, TypeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"translation": await asyncio.wrap_future(future), "process": os.getpid()})


def start(folder: str, port: int) -> Any:
    """Starts the replicas; returns Ray's handle."""
    cores = len(os.sched_getaffinity(0))
    ray.init(num_cpus=max(cores, REPLICAS), include_dashboard=False, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    return serve.run(Replica.bind(os.path.abspath(folder), max(1, cores // REPLICAS)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves a model with Ray Serve.")
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    options = parser.parse_args()
    start(options.folder, options.port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"serving on http://127.0.0.1:{options.port}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
