#!/usr/bin/env bash
# packed.sh LAPIDARY: steps of two small multi-crop runs, with the views of each size in a pass of their own and with all of them
# packed, on the CPU and on a GPU of Vulkan's (in software where there is no other); in turns, ROUNDS (3) times, the fastest of
# each. On the GPU also how many kernels a step launches, as CubeCL logs them. Its last line is a JSON object: how much faster a
# packed step is, and what part of the launches it takes. DEVICES (cpu wgpu), STEPS (4).
#   demo   2 views of 48 px and 4 of 24 px (37 and 10 tokens), 3 blocks of width 96, batch 8
#   crops  2 views of 224 px and 6 of 96 px (197 and 37 tokens), 4 blocks of width 96, batch 2, stochastic depth
set -euo pipefail
lapidary=$(realpath "$1")
steps=${STEPS:-4} rounds=${ROUNDS:-3} devices=${DEVICES:-cpu wgpu}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
knobs() {
  case "$1" in
    demo) echo --preset demo --set objective.kind=dino --set pretrain.batch=8 ;;
    crops) echo --preset coco-vits16 --set objective.kind=dino --set objective.prototypes=256 --set objective.head_hidden=256 \
      --set model.dim=96 --set model.depth=4 --set model.heads=3 --set model.drop_path=0.1 --set pretrain.batch=2 ;;
  esac
}
# CASE DEVICE PACKED STEPS
timed() {
  "$lapidary" gpu-check --device "$2" --time-steps "$4" --packed "$3" $(knobs "$1") --out "$work/out"
}
for case in demo crops; do
  for device in $devices; do
    for round in $(seq "$rounds"); do
      for packed in false true; do
        timed "$case" "$device" "$packed" "$steps" >> "$work/$case.$device.$packed"
      done
    done
    [ "$device" != cpu ] || continue
    for packed in false true; do
      for count in 4 8; do
        CUBECL_DEBUG_LOG=$work/log CUBECL_DEBUG_OPTION=profile timed "$case" "$device" "$packed" "$count" > /dev/null
        python3 "$(dirname "$0")/kernel_shares.py" "$work/log" > "$work/$case.$packed.launches.$count"
        rm "$work/log"
      done
    done
  done
done
python3 - "$work" $devices <<'PY'
import json, os, sys
work, ratios = sys.argv[1], {}
for case in ("demo", "crops"):
    for device in sys.argv[2:]:
        runs = {way: [json.loads(line) for line in open(f"{work}/{case}.{device}.{way}")] for way in ("false", "true")}
        secs = {way: min(run["step_secs"] for run in runs[way]) for way in runs}
        losses = {way: runs[way][0]["losses"] for way in runs}
        print(f"{case} on {device}: {1 / secs['false']:.3f} steps/s, packed {1 / secs['true']:.3f}; "
              f"losses {losses['false']}, packed {losses['true']}")
        ratios[f"{case}_{device}_faster"] = round(secs["false"] / secs["true"], 3)
    if os.path.exists(f"{work}/{case}.true.launches.8"):
        # 8 steps come after 2 that warm up, 4 after 1: the difference is 5 steps, without what is launched before the first.
        count = lambda way, steps: json.load(open(f"{work}/{case}.{way}.launches.{steps}"))["launches"]
        a_step = {way: (count(way, 8) - count(way, 4)) / 5 for way in ("false", "true")}
        print(f"{case}: {a_step['false']:.0f} launches a step, packed {a_step['true']:.0f}")
        ratios[f"{case}_launches"] = round(a_step["true"] / a_step["false"], 3)
print(json.dumps(ratios))
PY
