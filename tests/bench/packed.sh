#!/usr/bin/env bash
# packed.sh LAPIDARY: steps of two small multi-crop runs, with the views of each size in a pass of their own and with all of them
# packed, on the CPU and on a GPU of Vulkan's (in software where there is no other); in turns, ROUNDS (3) times, the best of each.
# Seconds are by the clock, and those of the processors (of a run of 8 steps less one of 3, so that kernels are not compiled
# in them), which other work on the machine does not change. On the GPU also how many kernels a step launches, as CubeCL logs them.
# Its last line is a JSON object: what a packed step takes of an unpacked one. DEVICES (cpu wgpu), CASES (demo crops).
#   demo   2 views of 48 px and 4 of 24 px (37 and 10 tokens), 3 blocks of width 96, batch 8
#   crops  2 views of 224 px and 6 of 96 px (197 and 37 tokens), 4 blocks of width 96, batch 2, stochastic depth
set -euo pipefail
lapidary=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
TIMEFORMAT='%U %S'
knobs() {
  case "$1" in
    demo) echo --preset demo --set objective.kind=dino --set pretrain.batch=8 ;;
    crops) echo --preset coco-vits16 --set objective.kind=dino --set objective.prototypes=256 --set objective.head_hidden=256 \
      --set model.dim=96 --set model.depth=4 --set model.heads=3 --set model.drop_path=0.1 --set pretrain.batch=2 ;;
  esac
}
# CASE DEVICE PACKED STEPS: so many steps are timed, after a quarter as many.
timed() {
  "$lapidary" gpu-check --device "$2" --time-steps "$4" --packed "$3" $(knobs "$1") --out "$work/out" 2> /dev/null
}
for case in ${CASES:-demo crops}; do
  for device in ${DEVICES:-cpu wgpu}; do
    for round in $(seq "${ROUNDS:-3}"); do
      for packed in false true; do
        for steps in 2 6; do
          name=$work/$case.$device.$packed.$steps
          { time timed "$case" "$device" "$packed" "$steps" >> "$name.said"; } 2>> "$name.processor"
        done
      done
    done
    [ "$device" != cpu ] || continue
    for packed in false true; do
      for steps in 2 6; do
        CUBECL_DEBUG_LOG=$work/log CUBECL_DEBUG_OPTION=profile timed "$case" "$device" "$packed" "$steps" > /dev/null
        python3 "$here/kernel_shares.py" "$work/log" > "$work/$case.$device.$packed.$steps.kernels"
        rm "$work/log"
      done
    done
  done
done
python3 - "$work" "${CASES:-demo crops}" "${DEVICES:-cpu wgpu}" <<'PY'
import json, os, sys
work, ratios = sys.argv[1], {}
# Steps of a run, those before the timed ones included.
ALL = {"2": 3, "6": 8}
for case in sys.argv[2].split():
    for device in sys.argv[3].split():
        lines = lambda way, steps, what: open(f"{work}/{case}.{device}.{way}.{steps}.{what}").read().splitlines()
        def least(way, steps):
            return min(sum(map(float, line.split())) for line in lines(way, steps, "processor"))
        def a_step(of):
            return (of("6") - of("2")) / (ALL["6"] - ALL["2"])
        found = {}
        for way in ("false", "true"):
            said = [json.loads(line) for line in lines(way, "6", "said")]
            found[way] = {"clock": min(run["step_secs"] for run in said), "processor": a_step(lambda steps: least(way, steps)),
                          "loss": said[0]["losses"][-1]}
            if os.path.exists(f"{work}/{case}.{device}.{way}.6.kernels"):
                found[way]["launches"] = a_step(lambda steps: json.loads(lines(way, steps, "kernels")[0])["launches"])
        for what, value in found["false"].items():
            packed = found["true"][what]
            print(f"{case} on {device}, {what}{'' if what == 'loss' else ' a step'}: {value:.6g}, packed {packed:.6g}")
            if what != "loss":
                ratios[f"{case}_{device}_{what}"] = round(packed / value, 3)
print(json.dumps(ratios))
PY
