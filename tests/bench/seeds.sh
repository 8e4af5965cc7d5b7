#!/usr/bin/env bash
# k-NN and linear probes of the trained network and its untrained twin on the built-in data, over 3 seeds.
set -euo pipefail
lapidary=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for seed in ${SEEDS:-0 1 2}; do
  out=$work/$seed; knobs=(--out "$out" --quiet --preset demo --set seed=$seed)
  "$lapidary" draw "$out/data/pile" "${knobs[@]}" > /dev/null
  "$lapidary" draw "$out/data/probe" --probe "${knobs[@]}" > /dev/null
  "$lapidary" ingest --data "$out/data/pile" "${knobs[@]}" > /dev/null
  "$lapidary" ingest --data "$out/data/probe" --as-probe "${knobs[@]}" > /dev/null
  for verb in fingerprint embed curate "cut --size 400" plan pretrain; do "$lapidary" $verb "${knobs[@]}" > /dev/null; done
  "$lapidary" eval --json "${knobs[@]}" | python3 -c "
import json, sys
f = json.load(sys.stdin)['facts']; t, u = f['trained'], f['untrained']
print(f\"seed $seed: k-NN {t['knn_top1']:.3f} trained, {u['knn_top1']:.3f} untrained; linear {t['linear_top1']:.3f}, {u['linear_top1']:.3f}; chance {f['chance_top1']:.3f}\")
print(t['knn_top1'], u['knn_top1'], t['linear_top1'], u['linear_top1'], file=open('$work/scores', 'a'))"
done
python3 - "$work/scores" <<'PY'
import statistics, sys
columns = list(zip(*(map(float, line.split()) for line in open(sys.argv[1]))))
said = [f"{100 * statistics.mean(c):.1f} %" + (f" (deviation {100 * statistics.stdev(c):.1f})" if len(c) > 1 else "") for c in columns]
print(f"means of {len(columns[0])}: k-NN {said[0]} trained, {said[1]} untrained; linear {said[2]}, {said[3]}")
PY
