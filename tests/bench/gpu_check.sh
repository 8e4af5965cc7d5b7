#!/usr/bin/env bash
# gpu_check.sh LAPIDARY [DEVICE]: what a GPU must show, correctness first, in at most nine minutes; it needs no compiler and no network,
# only the binaries. Every part prints as it goes and leaves what it found in RESULTS (default gpu-check.jsonl), a JSON object a
# line; the last line printed is one object. On a GPU in software (DEVICE=wgpu) it is a rehearsal on small sizes.
#   1. kernels beside their operators in f64, in f32, f16 and bf16; 20 steps of a small DINO and a small hybrid run beside the CPU's, and
#      where it is compiled in (FUSION=1) the same with burn's fusion, which fails nothing: no run trains with it
#   2. steps of coco-vits16 on pixels of waves, f32 (matrix products in TF32) and bf16: images/s, memory; once with a pass for each
#      size of views instead of all packed; on two cards and four where there are such; the share of time by kind of kernel
#   3. the same step in PyTorch, where it is installed with CUDA: bf16 under autocast, then compiled
#   4. two epochs on real images: loss, waiting for data, verdicts on collapse
# LAPIDARY_DATA names the images, PYTHON a Python with torch and timm; SECS (540) is the time it may take.
set -euo pipefail
lapidary=$(realpath "$1")
device=${2:-cuda}
here=$(cd "$(dirname "$0")" && pwd)
data=${LAPIDARY_DATA:-$here/../../../shared/data}
python=${PYTHON:-python3}
results=$(realpath "${RESULTS:-gpu-check.jsonl}")
end=$((SECONDS + ${SECS:-540}))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: > "$results"
left() { echo $((end - SECONDS > 1 ? end - SECONDS : 1)); }
# Runs a part for as long as is left; a part that fails or runs out of time is noted and does not end the check.
part() {
  local name=$1 code=0
  shift
  [ "$SECONDS" -lt "$end" ] || { echo "{\"part\": \"$name\", \"skipped\": \"no time left\"}" | tee -a "$results"; return; }
  echo "== $name, $(left) s left"
  timeout "$(left)" "$@" > "$work/said" 2> "$work/log" || code=$?
  [ "$code" = 0 ] || tail -5 "$work/log"
  "$python" - "$name" "$code" "$work/said" <<'PY' | tee -a "$results"
import json, sys
for line in open(sys.argv[3]):
    if line.startswith("{"):
        print(json.dumps({"part": sys.argv[1], **json.loads(line)}))
print(json.dumps({"part": sys.argv[1], "exit": int(sys.argv[2])}))
PY
}
# The most memory of the GPU that is taken while a command runs, in MiB.
with_memory() {
  local name=$1 peak=0 used
  shift
  part "$name" "$@" &
  local job=$!
  while kill -0 "$job" 2> /dev/null; do
    used=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits 2> /dev/null | head -1 || echo 0)
    [ "${used:-0}" -gt "$peak" ] && peak=$used
    sleep 0.5
  done
  wait "$job"
  echo "{\"part\": \"$name\", \"memory_mib\": $peak}" | tee -a "$results"
}

if [ "${device%%:*}" = cuda ]; then
  batches="64 256" steps=40 precisions="f32 bf16" preset=coco-vits16 small=() source=coco
else
  # A rehearsal: the same parts, on what a processor draws in minutes.
  batches="8" steps=3 precisions="f32" preset=demo source=coco
  small=(--set model.dim=48 --set model.depth=2 --set objective.prototypes=256 --set objective.barlow_dim=64)
fi
part doctor "$lapidary" doctor --json --out "$work/out"
part correct "$lapidary" gpu-check --device "$device" --out "$work/out"
for batch in $batches; do
  for precision in $precisions; do
    with_memory "step-$precision-$batch" "$lapidary" gpu-check --device "$device" --time-steps "$steps" --preset "$preset" \
      "${small[@]}" --set "pretrain.batch=$batch" --set "pretrain.precision=$precision" --out "$work/out"
  done
done
# The same step with a pass for each size of views, beside the packed one above.
part "step-unpacked-${precisions##* }-${batches%% *}" "$lapidary" gpu-check --device "$device" --time-steps "$steps" --packed false \
  --preset "$preset" "${small[@]}" --set "pretrain.batch=${batches%% *}" --set "pretrain.precision=${precisions##* }" --out "$work/out"
# The same step on two cards and on four, where there are so many.
cards=$( [ "${device%%:*}" = cuda ] && nvidia-smi --list-gpus 2> /dev/null | wc -l || echo 0)
for ranks in 2 4; do
  if [ "$cards" -ge "$ranks" ]; then
    part "step-$ranks-cards" "$lapidary" gpu-check --devices "$(seq -s, -f 'cuda:%g' 0 $((ranks - 1)))" --time-steps "$steps" --preset "$preset" \
      --set "pretrain.batch=$((ranks * 64))" --set pretrain.precision=bf16 --out "$work/out"
  fi
done
# What kernels take, as CubeCL measures each: three steps whose kernels were compiled and tuned above.
profile() {
  local log=$work/kernels.log
  CUBECL_DEBUG_LOG=$log CUBECL_DEBUG_OPTION=profile "$lapidary" gpu-check --device "$device" --time-steps 3 --preset "$preset" \
    "${small[@]}" --set "pretrain.batch=${batches%% *}" --set "pretrain.precision=${precisions##* }" --out "$work/out" > /dev/null
  "$python" "$here/kernel_shares.py" "$log"
}
export -f profile
export lapidary device
declare -p work here python preset small batches precisions > "$work/profiled"
part kernels bash -c "source '$work/profiled'; profile"

if [ "${device%%:*}" = cuda ] && "$python" -c "import timm, torch; assert torch.cuda.is_available()" 2> /dev/null; then
  for batch in $batches; do
    part "torch-bf16-$batch" "$python" "$here/train_twin.py" vits16 "$steps" --device cuda --precision bf16 --batch "$batch"
  done
  part "torch-compiled-64" "$python" "$here/train_twin.py" vits16 "$steps" --device cuda --precision bf16 --compile --batch 64
else
  echo '{"part": "torch", "skipped": "no PyTorch with timm and CUDA here"}' | tee -a "$results"
fi
if [ -d "$data/$source" ]; then
  knobs=(--preset "$preset" "${small[@]}" --out "$work/out" --quiet --set plan.epochs=2 --set "pretrain.batch=${batches%% *}")
  [ "${device%%:*}" = cuda ] || knobs+=(--set pretrain.steps=4)
  chain() {
    for verb in "ingest --data $data/$source" fingerprint embed curate "cut --size ${IMAGES:-all}" plan; do
      "$lapidary" $verb "${knobs[@]}" > /dev/null || return 1
    done
    "$lapidary" pretrain --run check --device "$device" "${knobs[@]}" --json
  }
  export -f chain
  export data source
  declare -p knobs > "$work/knobs"
  part images bash -c "source '$work/knobs'; chain"
else
  echo '{"part": "images", "skipped": "no images (set LAPIDARY_DATA)"}' | tee -a "$results"
fi
"$python" - "$results" <<'PY'
import json, sys
found = {}
for line in open(sys.argv[1]):
    said = json.loads(line)
    found.setdefault(said["part"], {}).update(said)
def rate(name):
    return found.get(name, {}).get("images_per_sec")
def ratio(a, b):
    return round(a / b, 3) if a and b else None
checks = [json.loads(line) for line in open(sys.argv[1])]
kernels = [said for said in checks if said.get("check") == "kernel"]
steps = [said["holds"] for said in checks if said.get("check") == "steps" and not said["fusion"]]
in_f32 = [said for said in checks if said.get("check") == "steps" and said.get("precision", "f32") == "f32"]
secs = {(said["objective"], said["fusion"]): said.get("step_secs") for said in in_f32}
fused = {said["objective"]: {"holds": said["holds"], "speed_beside_ours": ratio(secs.get((said["objective"], False)), said.get("step_secs"))}
         for said in in_f32 if said["fusion"]}
ours = {name: found[name] for name in found if name.startswith("step-")}
best = max((said.get("images_per_sec", 0) for name, said in ours.items() if name.endswith("-64") and said.get("packed")), default=None)
apart = next((name for name in ours if name.startswith("step-unpacked-")), "step-unpacked-")
images = found.get("images", {}).get("facts", {})
said = {
    "kernels": len(kernels), "kernels_wrong": sum(not said["holds"] for said in kernels),
    "steps_hold": bool(steps) and all(steps), "fusion": fused or "not compiled in",
    "images_per_sec": {name: round(said["images_per_sec"], 1) for name, said in ours.items() if "images_per_sec" in said},
    "packed_vs_unpacked": ratio(rate(apart.replace("unpacked-", "")), rate(apart)),
    "vs_torch_bf16": ratio(best, rate("torch-bf16-64")), "vs_torch_compiled": ratio(best, rate("torch-compiled-64")),
    "memory_vs_torch": ratio(found.get("step-bf16-64", {}).get("memory_mib"), found.get("torch-bf16-64", {}).get("peak_mib")),
    "cards": {f"{ranks} of 64 each beside 1 of 64": ratio(rate(f"step-{ranks}-cards"), best) for ranks in (2, 4) if f"step-{ranks}-cards" in found},
    "data_wait": images.get("data_wait_share"), "kernel_shares": found.get("kernels", {}).get("kernel_shares"),
}
print(json.dumps(said))
sys.exit(bool(said["kernels_wrong"]) or not said["steps_hold"])
PY
