"""Damages files at random and opens them. Only a ValueError that names the file may come, in bounded time and memory.

    python tests/damage.py KIND --count 10000 --seed 0

KIND is model, config, adapter, tokenizer, checkpoint, shards or toml. Case i of a seed is the same at every call, so
`--first I` repeats one. Cases run in a process of their own, so a crash or a hang is a finding, too. Prints findings as
they come, then one line of counts by verdict; exits with 1 if there was a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
from collections import Counter
from copy import deepcopy
from pathlib import Path

SECONDS = 20  # for one case; the machine may be busy
MEMORY = 512 << 20  # bytes above what opening the whole file takes


class Raw(str):
    """Text that stands in a JSON file as it is."""


class Twice(dict):
    """An object whose first name stands in it twice."""


def dumps(value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(dumps, value))}]"
    if isinstance(value, dict):
        items = [f"{json.dumps(name)}:{dumps(item)}" for name, item in value.items()]
        return f"{{{','.join(items + items[:1] if isinstance(value, Twice) else items)}}}"
    return json.dumps(value)


HOSTILE = [
    None, True, False, 0, 1, -1, 2, 3, 4, 255, 65_536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 2**64, 10**400, 0.5, -0.0,
    1e-300, 1e300, -1e300, 1e39, "", " ", "\0", "a", "a" * 10_000, "\U0001f642", [], [None], [[]], {}, [0] * 99,
    "../x", {"type": "Sequence"}, Raw("NaN"), Raw("-Infinity"), Raw("1e999"), Raw('"\\ud800"'), Raw("1" * 5000),
    Raw("[" * 9999), Raw("[" * 5000 + "]" * 5000), Raw('{"a":' * 5000 + "0" + "}" * 5000), Raw(f"[{'0,' * 100_000}0]"),
]  # fmt: skip


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, overwritten, cut out, put in, repeated, or cut off."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64, 1024))
        match rng.randrange(7):
            case 0 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place : place + length] = bytes(len(data[place : place + length]))
            case 2:
                data[place : place + length] = rng.randbytes(length)
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[place : place + length] * rng.choice((1, 3, 100))
            case 5:
                del data[place:]
            case _:
                data[place:place] = rng.choice(
                    (b'"', b"{", b"[", b"}", b"]", b",", b":", b"\xff", b"\0", b"9", b"-", b"e")
                )
    return bytes(data)


def damaged_json(value, rng: random.Random):
    """A value with one to three of its parts changed."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _change(value, value, rng)
    return value


def _change(value, root, rng):
    """Goes down to some part and changes it."""
    if isinstance(value, dict | list) and value and rng.random() < 0.8:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if rng.random() < 0.7:
            value[key] = _change(value[key], root, rng)
            return value
        match rng.randrange(4):
            case 0:
                del value[key]
            case 1 if isinstance(value, dict):
                value[rng.choice((key + "x", key.upper(), "", "\0", "a" * 300))] = value.pop(key)
            case 1:
                value.insert(key, value[key])
            case 2 if isinstance(value, dict):
                return Twice(value)
            case 2:
                value.extend(value[: rng.choice((1, 100))])
            case _:
                other = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
                value[key], value[other] = value[other], value[key]
        return value
    choice = rng.random()
    if choice < 0.4:
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return rng.choice((value + 1, value - 1, -value, value * 2, value + 2 ** rng.randrange(70), str(value)))
        if isinstance(value, float):
            return rng.choice((value * 10 ** rng.randrange(-40, 40), -value, round(value, 1)))
        if isinstance(value, str) and not isinstance(value, Raw):
            place = rng.randrange(len(value) + 1)
            part = rng.choice((value, " ", "\0", "\n", "é", "\U0001f642", chr(rng.randrange(1, 0xD800)), value * 100))
            return rng.choice((value[:place] + part + value[place:], value[:place], value[place + 1 :], value.upper()))
    if choice < 0.5:  # a part of another place
        part = root
        while isinstance(part, dict | list) and part and rng.random() < 0.8:
            part = rng.choice(list(part.values()) if isinstance(part, dict) else part)
        return part if isinstance(part, Raw) else json.loads(dumps_safely(part))
    return deepcopy(rng.choice(HOSTILE))  # the next change may be inside it


def dumps_safely(value) -> str:
    """JSON of a part that may hold Raw text already; then of nothing."""
    try:
        text = dumps(value)
        json.loads(text)
    except (ValueError, RecursionError):
        return "null"
    return text


def damaged_json_file(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return damaged_bytes(content, rng)
    return dumps(damaged_json(json.loads(content), rng)).encode()


def damaged_safetensors(content: bytes, rng: random.Random) -> bytes:
    """Bytes of the file, or parts of its header, changed."""
    if rng.random() < 0.4:
        return damaged_bytes(content, rng)
    size = int.from_bytes(content[:8], "little")
    header = dumps(damaged_json(json.loads(content[8 : 8 + size]), rng)).encode()
    if rng.random() < 0.1:
        header = rng.choice((b" ", b"\n", b"\0", b"")) + header + rng.choice((b"", b" ", b"\0", b"{}"))
    if rng.random() < 0.5:
        header += b" " * (-len(header) % 8)
    data = content[8 + size :]
    if rng.random() < 0.2:
        data = rng.choice((data[:-1], data + b"\0", data + data, b""))
    return len(header).to_bytes(8, "little") + header + data


# What runs in the process of the cases.


def work(kind: str, seed: int, first: int, last: int) -> None:
    """Runs the cases [first, last); prints number and verdict of each."""
    from damaged_kinds import KINDS

    with tempfile.TemporaryDirectory() as folder:
        files = KINDS[kind](Path(folder))
        for whole in files.whole:
            files.put(whole)
            files.open()
        print("ready", flush=True)
        peak = _peak()
        if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # its shadow memory needs terabytes of addresses
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 4 * MEMORY, used + 4 * MEMORY))
        for i in range(first, last):
            files.damage(random.Random(f"{seed}-{kind}-{i}"))
            verdict = verdict_of(files)
            if (now := _peak()) > peak + MEMORY:
                verdict, peak = f"finding: took {now - peak:,} bytes of memory", now
            print(i, verdict, flush=True)


def verdict_of(files) -> str:
    """What opening the damaged files ended in."""
    try:
        files.open()
    except ValueError as error:
        named = any(name in str(error) for name in files.names)
        return "refused" if named else f"finding: names no file: {error!r}"
    except files.allowed:
        return "refused"
    except BaseException as error:  # a panic of a library is no Exception
        return f"finding: {error!r}"
    return "opened"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


# What watches it.


def run(kind: str, count: int, seed: int, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Verdicts of the cases [first, first + count), and the findings."""
    verdicts, findings = Counter[str](), []
    last = first + count
    while first < last:
        with tempfile.TemporaryFile() as errors:
            command = [
                sys.executable,
                __file__,
                kind,
                "--worker",
                str(last),
                "--seed",
                str(seed),
                "--first",
                str(first),
            ]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
            if process.stdout.readline() != b"ready\n":
                errors.seek(0)
                raise RuntimeError(f"{kind}: the whole files do not open\n{errors.read().decode()}")
            reason = ""
            while first < last and not reason:
                if not select.select([process.stdout], [], [], SECONDS)[0]:
                    reason = f"no end after {SECONDS} s"
                elif not (line := process.stdout.readline().decode()):
                    reason = f"the process ended with {process.wait()}"
                else:
                    number, _, verdict = line.strip().partition(" ")
                    assert int(number) == first, line
                    verdicts[verdict.partition(":")[0]] += 1
                    if verdict.startswith("finding"):
                        findings.append(f"{kind} case {first}: {verdict}")
                    first += 1
            process.kill()
            process.wait()
            process.stdout.close()
            if reason:
                errors.seek(0)
                tail = errors.read().decode(errors="replace")[-2000:]
                findings.append(f"{kind} case {first}: {reason}\n{tail}")
                verdicts["finding"] += 1
                first += 1
    return verdicts, findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.kind, options.seed, options.first, options.worker)
        return 0
    verdicts, findings = run(options.kind, options.count, options.seed, options.first)
    for finding in findings:
        print(finding)
    counts = ", ".join(f"{verdicts[verdict]:,} {verdict}" for verdict in ("refused", "opened", "finding"))
    print(f"{options.kind}, seed {options.seed}: {options.count:,} damaged: {counts}")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
