#!/usr/bin/env bash
# Everything that needs a GPU, once, in less than 9 minutes: bench/gpu.sh [FOLDER]
#
# Needs Python with torch, pytest-xdist and what pyproject.toml's build system lists, nvcc 13 and cmake; no network.
# A stage that fails or runs out of time does not stop the next. FOLDER (by default build/gpu) has for each stage its
# log and its lines of JSON; the table at the end shows them all. STAGES, a list, chooses among them, GPU_OPTIONS is
# for bench/gpu.py: STAGES="facts parity" GPU_OPTIONS="--model tiny --no-torch --steps 3" tries the script out.
set -uo pipefail
cd "$(dirname "$0")/.."

out=${1:-build/gpu}
options=${GPU_OPTIONS:-}
mkdir -p "$out"
rm -f "$out"/*.jsonl "$out"/*.log

line_of_stage='import json, sys
name, outcome, seconds, log = sys.argv[1:]
said = [line for line in open(log, errors="replace").read().splitlines() if line.strip()]
why = said[-1][:200] if said and outcome != "passed" else ""
print(json.dumps({"stage": name, "outcome": outcome, "seconds": int(seconds), "why": why}))'

stage() {  # NAME SECONDS COMMAND...: its standard output are lines of JSON, or nothing
  local name=$1 limit=$2 begin=$SECONDS status=0
  shift 2
  [[ " ${STAGES:-$name} " == *" $name "* ]] || return 0
  timeout --kill-after=5 "$limit" "$@" > "$out/$name.jsonl" 2> "$out/$name.log" || status=$?
  case $status in
    0) outcome=passed ;;
    77) outcome="not run" ;;
    124 | 137) outcome="no time" ;;
    *) outcome="failed $status" ;;
  esac
  python - "$name" "$outcome" $((SECONDS - begin)) "$out/$name.log" <<< "$line_of_stage" | tee -a "$out/stages.jsonl"
}

build() {
  DRAGOMAN_CUDA=ON CMAKE_ARGS="-DCMAKE_CUDA_ARCHITECTURES=90a-real -DDRAGOMAN_ISAS=baseline;avx512" \
    python -m pip install --quiet --no-build-isolation --no-deps . >&2
}

ready() {  # COMMAND: it and a GPU are there
  command -v "$1" > /dev/null || { echo "there is no $1" >&2; exit 77; }
  python bench/gpu.py ready || exit
}

conformance() {
  ready nvcc
  nvcc -std=c++20 -arch=native -Icsrc tests/emulator/conformance.cu -o "$out/conformance" >&2 && "$out/conformance" >&2
}

suite() {
  ready python
  python -m pytest -q --device cuda -n 4 --maxfail 20 tests/ops tests/emulator tests/models >&2
}

sanitize() {
  ready compute-sanitizer
  compute-sanitizer --tool "$1" --error-exitcode 3 python -m pytest -q --device cuda -x tests/emulator >&2
}

export -f ready build conformance suite sanitize
export out

# In all 535 seconds.
stage build 100 bash -c build
stage facts 10 python bench/gpu.py facts $options
stage ceilings 15 python bench/gpu.py ceilings $options
stage conformance 30 bash -c conformance
stage suite 100 bash -c suite
stage memcheck 40 bash -c "sanitize memcheck"
stage racecheck 40 bash -c "sanitize racecheck"
stage parity 50 python bench/gpu.py parity $options
stage ops 50 python bench/gpu.py ops $options
stage train 65 python bench/gpu.py train $options
stage decode 35 python bench/gpu.py decode $options

python bench/gpu.py table "$out"
