#!/usr/bin/env bash
# A hybrid step of ViT-S/16 and ViT-Ti/16 (batch 4: 8 views of 224 px, 24 of 96 px) and of cifar-vitti4 (batch 64), on 2 threads,
# beside the same step in PyTorch; in turns, ROUNDS (3) times, the best step of each. Its last line is a JSON object of ratios,
# above 1 where ours is faster (or, of memory, larger). CASES chooses, LAPIDARY_TORCH_VENV names
# a virtual environment that has PyTorch and timm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
source "$here/venv.sh"
python=$(venv bench-torch "torch==2.15.0 timm==1.0.31 numpy==2.4.6" "${LAPIDARY_TORCH_VENV:-}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo bench --workspace --bench train --no-run --quiet --message-format=json 2> /dev/null | python3 -c "
import json, sys
for line in sys.stdin:
    said = json.loads(line)
    if said.get('target', {}).get('name') == 'train' and said.get('executable'):
        print(said['executable'])" > "$work/ours"
ours=$(tail -1 "$work/ours")
for round in $(seq "${ROUNDS:-3}"); do
  for case in ${CASES:-cifar-vitti4 vitti16 vits16}; do
    steps=4; [ "$case" = cifar-vitti4 ] && steps=8
    RAYON_NUM_THREADS=2 "$ours" "$case" "$steps" >> "$work/$case.lapidary"
    OMP_NUM_THREADS=2 "$python" "$here/train_twin.py" "$case" "$steps" >> "$work/$case.torch" 2>> "$work/log" || { cat "$work/log"; exit 1; }
  done
done
for round in $(seq "${ROUNDS:-3}"); do
  RAYON_NUM_THREADS=2 "$ours" features 4 >> "$work/features.lapidary"
  OMP_NUM_THREADS=2 "$python" "$here/train_twin.py" features 4 >> "$work/features.torch"
done
python3 - "$work" ${CASES:-cifar-vitti4 vitti16 vits16} <<'PY'
import json, sys
work, cases = sys.argv[1], sys.argv[2:]
names = {"cifar-vitti4": "cifar", "vitti16": "vitti16", "vits16": "vits16"}
ratios = {}
for case in cases:
    best = {}
    for who in ("lapidary", "torch"):
        runs = [json.loads(line) for line in open(f"{work}/{case}.{who}")]
        # The first step allocates.
        steps = [(s, p, q) for run in runs for s, p, q in list(zip(run["secs"], run["processor_secs"], run["parts"]))[1:]]
        secs, _, parts = min(steps, key=lambda step: step[0])
        processor, peak = min(step[1] for step in steps), min(run["peak_mib"] for run in runs)
        best[who] = (secs, processor, peak)
        said = ", ".join(f"{name} {value:.3f}" for name, value in parts.items())
        print(f"{case:<13} {who:<9} {secs:7.3f} s, {processor:7.3f} s of processor time, {peak:6.0f} MiB: {said}")
    (a, b, c), (d, e, f) = best["lapidary"], best["torch"]
    ratios[f"{names[case]}_vs_torch"], ratios[f"{names[case]}_processor_vs_torch"] = round(d / a, 3), round(e / b, 3)
    ratios[f"{names[case]}_memory_vs_torch"] = round(c / f, 3)
rate = {who: max(json.loads(line)["images_per_sec"] for line in open(f"{work}/features.{who}")) for who in ("lapidary", "torch")}
print(f"features of ViT-S/16 at 224 px: {rate['lapidary']:.1f} images/s, timm {rate['torch']:.1f}")
ratios["features_vs_timm"] = round(rate["lapidary"] / rate["torch"], 3)
ratios["memory_vs_torch"] = max((value for name, value in ratios.items() if "memory" in name), default=0)
print(json.dumps(ratios))
PY
