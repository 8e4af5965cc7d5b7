#!/usr/bin/env bash
# Peak memory and time of a hybrid step of ViT-S/16 (2 x 224 px, 8 x 96 px, batch 4) on the CPU: as it is, with blocks computed
# again in the backward pass, with the batch in four parts, and both. Its last line is a JSON object of ratios to the first.
set -euo pipefail
lapidary=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
knobs=(--preset coco-vits16 --out "$work/out" --quiet --set pretrain.batch=4 --set "pretrain.steps=${STEPS:-5}" --set plan.epochs=1)
"$lapidary" draw "$work/pile" > /dev/null
for verb in "ingest --data $work/pile" fingerprint embed curate "cut --size 100" plan; do
  "$lapidary" $verb "${knobs[@]}" > /dev/null
done
run() {
  name=$1; shift
  "$lapidary" pretrain --device cpu --run "$name" --json "${knobs[@]}" "$@" > "$work/$name.json"
}
run whole
run recompute_blocks --set pretrain.recompute_blocks=true
run accumulate_4 --set pretrain.accumulate=4
run both --set pretrain.recompute_blocks=true --set pretrain.accumulate=4
python3 - "$work" <<'PY'
import json, sys
read = lambda name: json.load(open(f"{sys.argv[1]}/{name}.json"))
whole, ratios = None, {}
for name in ("whole", "recompute_blocks", "accumulate_4", "both"):
    run = read(name)
    memory, secs = run["peak_memory_mib"], 1 / run["facts"]["steps_per_sec"]
    whole = whole or (memory, secs)
    print(f"{name}: peak {memory:.0f} MiB, {secs:.1f} s a step, loss {run['facts']['last']['loss']:.6f}")
    ratios[name] = {"memory": round(memory / whole[0], 3), "time": round(secs / whole[1], 2)}
print(json.dumps(ratios))
PY
