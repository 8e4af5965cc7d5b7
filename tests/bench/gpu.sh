#!/usr/bin/env bash
# 50 steps of coco-vits16 at batch 64 on a GPU, in f32 and with bf16 products, and the same first 10 on the CPU in f32: losses must
# agree within 1 % for the first 5 steps (burn multiplies f32 as TF32 on the GPU), bf16's within 5 %. Its last line is a JSON
# object.
set -euo pipefail
lapidary=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
data=${LAPIDARY_DATA:-$here/../../../shared/data}
[ -d "$data/coco" ] || { echo "no images under $data (set LAPIDARY_DATA)"; exit 1; }
command -v nvidia-smi > /dev/null || { echo "no NVIDIA driver here: run this on a machine with a GPU"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
knobs=(--preset coco-vits16 --out "$work/out" --quiet --set plan.epochs=5 --set pretrain.steps=50)
for verb in "ingest --data $data/coco" fingerprint embed curate cut plan; do "$lapidary" $verb "${knobs[@]}" > /dev/null; done
"$lapidary" pretrain --run gpu --device cuda "${knobs[@]}" &
trainer=$!
peak=0
while kill -0 $trainer 2> /dev/null; do
  used=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | head -1)
  [ "$used" -gt "$peak" ] && peak=$used
  sleep 0.5
done
wait $trainer
"$lapidary" pretrain --run bf16 --device cuda "${knobs[@]}" --set pretrain.precision=bf16
# The schedules of the same 50 steps, stopped after 10.
timeout -s INT "${CPU_SECS:-900}" "$lapidary" pretrain --run cpu --device cpu "${knobs[@]}" || true
python3 - "$work/out/coco/runs" "$peak" <<'PY'
import glob, json, sys
read = lambda name: [json.loads(l) for f in glob.glob(f"{sys.argv[1]}/{name}/metrics.jsonl") for l in open(f)]
gpu, bf16, cpu = read("gpu"), read("bf16"), read(".cpu.partial") or read("cpu")
pairs = [(g["loss"], c["loss"]) for g, c in zip(gpu, cpu)][:10]
for step, (g, c) in enumerate(pairs):
    print(f"step {step}: GPU {g:.5f}, CPU {c:.5f}, off by {abs(g - c) / abs(c) * 100:.3f} %")
worst = max(abs(g - c) / abs(c) for g, c in pairs[:5])
worst_bf16 = max(abs(b["loss"] - g["loss"]) / abs(g["loss"]) for b, g in list(zip(bf16, gpu))[:5])
rate_of = lambda run: 64 * len(run[10:]) / sum(s["step_secs"] for s in run[10:])
rate = rate_of(gpu)
print("loss every 10 steps on the GPU:", [round(s["loss"], 4) for s in gpu[::10]])
print(json.dumps({"images_per_sec": round(rate, 1), "gpu_memory_mib": int(sys.argv[2]), "worst_of_first_5": round(worst, 5),
                  "bf16_images_per_sec": round(rate_of(bf16), 1), "bf16_worst_of_first_5": round(worst_bf16, 5)}))
sys.exit(worst > 0.01 or worst_bf16 > 0.05)
PY
