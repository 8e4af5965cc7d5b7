#!/usr/bin/env bash
# Probes on 60,000 features of 384 values, on 2 threads: k-NN beside facebookresearch/dino's way in PyTorch, logistic regression
# beside scikit-learn's, features of ViT-S/16 beside timm's; in turns, ROUNDS (3) times, the best of each. Its last line is a JSON
# object of ratios, above 1 where ours is faster: k-NN for k = 20 alone (`knn_vs_torch`) and for k = 10, 20, 100 and 200, which the
# reference searches four times (`knn_four_k_vs_torch`); the `_processor_` ones are of processor time, which other work on the
# machine disturbs less; `knn_equal` is the share of equal predictions over all k, `top1_diff` how
# far the regressions' top-1 are apart, in points of a hundred. LAPIDARY_TORCH_VENV names a virtual environment that has
# PyTorch, timm and scikit-learn.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
source "$here/venv.sh"
pins="torch==2.15.0 timm==1.0.31 numpy==2.4.6 scikit-learn==1.9.1"
python=$(venv bench-eval "$pins" "${LAPIDARY_TORCH_VENV:-}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo bench --workspace --bench train --bench eval --no-run --quiet --message-format=json 2> /dev/null | python3 -c "
import json, sys
for line in sys.stdin:
    said = json.loads(line)
    if said.get('executable'):
        print(said['target']['name'], said['executable'])" > "$work/ours"
bench() { awk -v name="$1" '$1 == name { print $2 }' "$work/ours" | tail -1; }
export RAYON_NUM_THREADS=2 OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2
"$python" "$here/eval_twin.py" data "$work"
for round in $(seq "${ROUNDS:-3}"); do
  for probe in knn linear; do
    "$(bench eval)" "$probe" "$work" >> "$work/$probe.ours"
    "$python" "$here/eval_twin.py" "$probe" "$work" >> "$work/$probe.theirs"
  done
  "$(bench train)" features 4 >> "$work/features.ours"
  "$python" "$here/train_twin.py" features 4 >> "$work/features.theirs"
done
"$python" - "$work" <<'PY'
import json, pathlib, sys
import numpy as np
work = pathlib.Path(sys.argv[1])
runs = lambda name: [json.loads(line) for line in open(work / name)]
best = lambda name, key: min(run[key] for run in runs(name))
predicted = lambda name: np.fromfile(work / name, "<u4")
ratios = {}
names = {"knn_20": "knn_vs_torch", "knn_20_processor": "knn_processor_vs_torch", "knn_all": "knn_four_k_vs_torch"}
for key, name in names.items():
    ours, theirs = best("knn.ours", key), best("knn.theirs", key)
    ratios[name] = round(theirs / ours, 2)
    print(f"{key:<16} {ours:7.2f} s, PyTorch {theirs:7.2f} s")
ours, theirs = best("linear.ours", "secs"), best("linear.theirs", "secs")
ratios["linear_vs_sklearn"] = round(theirs / ours, 2)
of = [best("linear.theirs", "processor"), best("linear.ours", "processor")]
ratios["linear_processor_vs_sklearn"] = round(of[0] / of[1], 2)
mine, other = runs("linear.ours")[0], runs("linear.theirs")[0]
print(f"logistic         {ours:7.2f} s ({mine['iterations']} iterations), scikit-learn {theirs:7.2f} s ({other['iterations']})")
rate = {who: max(run["images_per_sec"] for run in runs(f"features.{who}")) for who in ("ours", "theirs")}
ratios["features_vs_timm"] = round(rate["ours"] / rate["theirs"], 3)
print(f"features         {rate['ours']:7.1f} images/s, timm {rate['theirs']:7.1f}")
equal = [np.mean(predicted(f"knn-{k}.lapidary") == predicted(f"knn-{k}.torch")) for k in (10, 20, 100, 200)]
ratios["knn_equal"] = float(np.mean(equal))
ratios["top1_diff"] = round(100 * abs(mine["top1"] - other["top1"]), 3)
print(f"top-1 of logistic regression {100 * mine['top1']:.2f} %, scikit-learn {100 * other['top1']:.2f} %; "
      f"{100 * np.mean(predicted('linear.lapidary') == predicted('linear.sklearn')):.2f} % of predictions equal")
print(json.dumps(ratios))
PY
