#!/usr/bin/env bash
# Takes every figure of bench/RESULTS.md again and writes that file. An idle machine, please: about an hour.
#
# usage: bench/reproduce.sh [FOLDER for the JSON documents, default bench/out]
# PER_SUITE, MAX_TOKENS, REPEATS   how much is measured
# LLAMA_SERVER, LLAMA_BENCH        llama.cpp's own programs, for the baseline check and the peers
# SUITE                            other prompts than pilotfish's own
# RESULTS                          the file to write, default bench/RESULTS.md
# ONLY                             a word of the names below: take those figures alone
set -euo pipefail
cd "$(dirname "$0")/.."

out="${1:-bench/out}"
mkdir -p "$out"
common=(--per-suite "${PER_SUITE:-3}" --max-tokens "${MAX_TOKENS:-96}" --repeats "${REPEATS:-2}")
[ -n "${SUITE:-}" ] && common+=(--suite "$SUITE")
check=()
[ -n "${LLAMA_SERVER:-}" ] && check+=(--llama-server "$LLAMA_SERVER")
[ -n "${LLAMA_BENCH:-}" ] && check+=(--llama-bench "$LLAMA_BENCH")

documents=()
measure() { # NAME OPTIONS...: one document
  local name="$1"
  shift
  case "$name" in *"${ONLY:-}"*) ;; *) return ;; esac
  echo "== $name" >&2
  pilotfish bench "${common[@]}" "$@" --out "$out/$name.json" --plots "$out/plots/$name" >"$out/$name.txt"
  documents+=("$out/$name.json")
}

measure auto-q4_0 --model smollm2:Q4_0 --method auto
measure auto-bf16 --model smollm2 --method auto
measure auto-q4_1 --model smollm2:Q4_1 --method auto
measure auto-gemma --model gemma3-270m --method auto
measure sampled-q4_0 --model smollm2:Q4_0 --method auto --temperature 0.8
measure sampled-bf16 --model smollm2 --method auto --temperature 0.8
copy=(--suite bench/prompts/copy.jsonl --per-suite 24 --method auto --config "method=auto flash_attn=false")
measure sampled-q4_1 --model smollm2:Q4_1 --method auto --temperature 0.8
measure sampled-gemma --model gemma3-270m --method auto --temperature 0.8
measure copy-q4_0 --model smollm2:Q4_0 "${copy[@]}"
measure copy-bf16 --model smollm2 "${copy[@]}"
measure adversarial-q4_0 --model smollm2:Q4_0 --method auto --suite bench/prompts_adversarial --per-suite 12
fixed=()
for n in 2 4 8 16; do fixed+=(--config "method=suffix planner=fixed max_draft=$n"); done
measure ablation-q4_0 --model smollm2:Q4_0 --method auto --per-suite 1 "${fixed[@]}"
measure ablation-bf16 --model smollm2 --method auto --per-suite 1 "${fixed[@]}"
measure lookup-q4_0 --model smollm2:Q4_0 --method lookup "${check[@]}"
measure lookup-bf16 --model smollm2 --method lookup
measure lookup-gemma-q4_k_m --model gemma3-270m --method lookup
measure temperature --model smollm2:Q4_0 --method lookup --per-suite 1 --sweep temperature=0,0.8
measure draft-length --model smollm2:Q4_0 --method lookup --per-suite 1 --sweep max_draft=1,3,7,15
measure quantization --method lookup --per-suite 1 --sweep model=smollm2:Q4_1,smollm2:Q8_0,smollm2:Q5_0
measure context-length --model smollm2:Q4_0 --method lookup --per-suite 1 --repeats 1 --sweep context=512,2048
measure draft-model --method model --per-suite 1 --draft smollm2:Q4_0 --sweep max_draft=2,4
if [ -n "${LLAMA_SERVER:-}" ]; then
  measure peers --model smollm2:Q4_0 --method lookup --per-suite 1 --llama-server "$LLAMA_SERVER" \
    --peer llama-server:all --peer llama-cpp-python --peer llama-cpp-python:lookup
  # the best of a sweep over types, lengths of what must match and of what is drafted
  measure servers --model smollm2:Q4_0 --method auto --llama-server "$LLAMA_SERVER" --peer llama-server \
    --peer "llama-server:ngram-simple --spec-ngram-simple-size-n 3 --spec-ngram-simple-size-m 3" \
    --peer "llama-server:ngram-map-k --spec-ngram-map-k-size-n 3 --spec-ngram-map-k-size-m 3" \
    --peer "llama-server:ngram-map-k4v --spec-ngram-map-k4v-size-n 3 --spec-ngram-map-k4v-size-m 3"
fi

pilotfish bench results "${documents[@]}" --title "Results" >"${RESULTS:-bench/RESULTS.md}"
