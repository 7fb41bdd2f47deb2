#!/usr/bin/env bash
# Every part of our own through everything: train, evaluate, sweep, compare, resume after kill -9,
# export. Takes a minute or two; works from any folder. What it makes is removed at the end.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export ATTNSEG_PROJECT=$project # trusts this folder, as `attnseg trust` does for a person
python=${PYTHON:-python3}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$out"
attnseg() { "$python" -m attnseg "$@"; }
step() { printf '\n== %s\n' "$*"; }
options=(experiment=own trainer.accelerator=cpu trainer.progress_bar=false)

step "train, and measure"
attnseg train "${options[@]}" run.dir="$out/a"
attnseg evaluate checkpoint="$out/a" split=val n_pictures=3

step "the same again, killed in the middle and resumed: equal to the bit"
("$python" -m attnseg train "${options[@]}" run.dir="$out/b" run.root="$out" \
  callbacks.checkpoint.every_n_steps=1 > "$out/log" 2>&1) &
killed=$!
until [ -s "$out/b/checkpoints/last.ckpt" ]; do
  kill -0 $killed 2> /dev/null || { cat "$out/log"; exit 1; }
  sleep 0.05
done
pkill -9 -P $killed 2> /dev/null || true
kill -9 $killed 2> /dev/null || true
wait $killed 2> /dev/null || true
grep -q '"finished"' "$out/b/status.json" && { echo "it had finished already"; exit 1; }
attnseg train "${options[@]}" run.dir="$out/b" callbacks.checkpoint.every_n_steps=1
"$python" - "$out/a" "$out/b" << 'PYTHON'
import sys, torch
one, other = (torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in sys.argv[1:])
assert all(torch.equal(one["state_dict"][k], v) for k, v in other["state_dict"].items())
print(f"{len(one['state_dict'])} tensors are equal")
PYTHON

step "a sweep, and its comparison"
attnseg train -m "${options[@]}" run.root="$out/runs" loss.terms.sparsity.power=1,2
attnseg compare "$out/runs"/own*/ split=val n_cases=1 output_dir="$out/compare"

step "export, and measure what was exported"
attnseg export checkpoint="$out/a" output="$out/own.safetensors"
attnseg evaluate checkpoint="$out/own.safetensors" split=val n_pictures=0 output_dir="$out/exported"
step "done"
