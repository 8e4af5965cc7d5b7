#!/usr/bin/env bash
# rehearse.sh LAPIDARY: what can be known of CUDA without a GPU, by a binary that was built with it (make build CUDA=1). Kernels are compiled
# by the real NVRTC for compute capability 9.0 and assembled by the real ptxas, both from PyPI; the driver and NCCL are ours (driver.c,
# nccl.c): memory is the host's, launches are held to a card's limits and not run, so that what kernels would have written is zeros.
# So it shows that every kernel compiles and assembles, what it takes of registers and spills, that the driver is asked for nothing it would
# refuse, and how ranks meet by NCCL up to the first value that a kernel would have made. It shows nothing of values or speed.
# The last line is a JSON object; it fails where a kernel does not compile, assemble or launch.
# SMALL=1 leaves out the steps of ViT-S/16. OUT_DIR keeps the PTX. Ten minutes on two cores.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lapidary=$(realpath "$1")
source "$here/../bench/venv.sh"
python=$(venv cuda-venv "nvidia-cuda-nvrtc-cu12==12.9.86 nvidia-cuda-runtime-cu12==12.9.79 nvidia-cuda-cccl-cu12==12.9.27 nvidia-cuda-nvcc-cu12==12.9.86" "${CUDA_VENV:-}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages=$(dirname "$("$python" -c 'import nvidia.cuda_nvrtc as nvrtc; print(list(nvrtc.__path__)[0])')")
mkdir -p "$work/lib" "$work/cuda/include" "${OUT_DIR:=$work/ptx}"
gcc -O1 -shared -fPIC -o "$work/lib/libcuda.so.1" "$here/driver.c" -lpthread
gcc -O1 -shared -fPIC -o "$work/lib/libnccl.so" "$here/nccl.c" -lpthread
ln -s libcuda.so.1 "$work/lib/libcuda.so"
ln -s "$packages"/cuda_nvrtc/lib/* "$work/lib/"
[ -e "$work/lib/libnvrtc.so" ] || ln -s libnvrtc.so.12 "$work/lib/libnvrtc.so"
for folder in cuda_runtime cuda_cccl cuda_nvcc; do
  [ ! -d "$packages/$folder/include" ] || cp -rsn "$packages/$folder/include/." "$work/cuda/include/"
done
export LD_LIBRARY_PATH=$work/lib CUDA_PATH=$work/cuda DRIVER_PTX=$OUT_DIR
failed=()
# What is said on a line of its own, and its exit status, which is not an error: values are zeros.
run() {
  local name=$1
  shift
  echo "== $name"
  timeout "${SECS:-900}" "$lapidary" "$@" --out "$work/out" > "$work/$name.said" 2> "$work/$name.log" && code=0 || code=$?
  if [ "$code" -ge 99 ] || grep -qiE "compil|nvrtc|refuses" "$work/$name.log"; then
    failed+=("$name")
    tail -20 "$work/$name.log"
  fi
  tail -1 "$work/$name.said" | cut -c1-300
}
run doctor doctor --json
# Its values are wrong and it says so, after each operator in f32, f16 and bf16 and 20 steps of small runs.
run operators gpu-check --device cuda
small() {
  run "$1" gpu-check --device cuda --time-steps 1 --preset demo --set pretrain.batch=8 --set objective.targets=sinkhorn "${@:2}"
}
dinov2=(--set objective.kind=dino --set objective.ibot_weight=1 --set objective.koleo_weight=0.1 --set model.registers=2
  --set model.layer_scale=0.1 --set model.positions=rope --set pretrain.recompute_blocks=true)
for objective in hybrid vicreg simclr sscd; do
  small "$objective" --set "objective.kind=$objective"
done
small dinov2 "${dinov2[@]}"
small hybrid-bf16 --set pretrain.precision=bf16
small dinov2-bf16 --set pretrain.precision=bf16 "${dinov2[@]}"
for precision in f32 bf16; do
  [ -n "${SMALL:-}" ] || run "vits16-$precision" gpu-check --device cuda --time-steps 1 --preset coco-vits16 --set pretrain.batch=2 \
    --set "pretrain.precision=$precision"
done
# A run as a stage: batches uploaded as floats and as bytes, metrics, checkpoints. What it learns from zeros may not be finite.
"$lapidary" draw -- "$work/images" > /dev/null 2>&1
chain=(--preset demo --quiet --set pretrain.steps=4 --set pretrain.batch=8)
for verb in "ingest --data $work/images" fingerprint embed curate "cut --size 60" plan; do
  "$lapidary" $verb "${chain[@]}" --out "$work/out" > /dev/null 2>&1
done
for augment in cpu device; do
  run "pretrain-$augment" pretrain --run "of-$augment" --device cuda "${chain[@]}" --set "pretrain.augment=$augment"
done
# Two devices meet by NCCL until the sum of the ranks, which a kernel makes, is read.
run ranks gpu-check --devices cuda:0,cuda:1 --time-steps 1 --preset demo --set pretrain.batch=8
meets=$(grep -cE "a sum is of .* devices, not of 2" "$work/ranks.log" || true)
echo "== ptxas"
ptxas=$packages/cuda_nvcc/bin/ptxas
chmod +x "$ptxas" 2> /dev/null || true
# The same kernel of several runs is assembled once.
assemble() {
  local log
  if log=$("$ptxas" -arch=sm_90a -v "$1" -o /dev/null 2>&1); then
    echo "$(basename "$1" .ptx) $(grep -E "registers|spill" <<< "$log" | tr '\n' ' ')"
  else
    echo "$(basename "$1" .ptx) failed: $(head -1 <<< "$log")"
  fi
}
export -f assemble
export ptxas
sha256sum "$OUT_DIR"/*.ptx | sort | awk '!seen[$1]++ { print $2 }' > "$work/kernels"
xargs -P "$(nproc)" -I{} bash -c 'assemble {}' < "$work/kernels" > "$work/assembled"
"$python" - "$work/assembled" "$OUT_DIR/launches" "$meets" "${failed[@]}" <<'PY'
import json, re, sys
assembled, launches, meets, *failed = sys.argv[1:]
registers, spilled, count = [], {}, 0
for line in open(assembled):
    count, name = count + 1, line.split()[0]
    if " failed: " in line:
        failed.append(line.strip())
    registers += [(int(found), name) for found in re.findall(r"Used (\d+) registers", line)]
    stores = sum(int(found) for found in re.findall(r"(\d+) bytes spill stores", line))
    if stores:
        spilled[name.rsplit(".", 2)[0]] = max(stores, spilled.get(name.rsplit(".", 2)[0], 0))
launched = sum(int(line.split()[-1]) for line in open(launches))
print(json.dumps({"kernels": count, "launches": launched, "most_registers": max(registers, default=(0, ""))[0], "spill_bytes": spilled,
    "ranks_meet_by_nccl": meets != "0", "failed": failed}))
sys.exit(bool(failed) or meets == "0")
PY
