#!/usr/bin/env bash
# Trains a tiny run on the built-in data, exports it to every target, and holds each export against the library that it is for
# (tests/golden/exports.py). Networks: plain; with registers and LayerScale; with RoPE.
#
#   LAPIDARY_PYTHON=python tests/golden/exports.sh [path/to/lapidary]
#
# LAPIDARY_PYTHON is a Python with torch, timm, transformers, onnx, onnxruntime, safetensors and numpy; DINOV2 names a checkout
# of facebookresearch/dinov2, without which its exports are held against a plain forward pass.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lapidary=${1:-${CARGO_TARGET_DIR:-$here/../../target}/release/lapidary}
python=${LAPIDARY_PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

ask() { "$lapidary" "$@" --out "$work/out" --quiet >/dev/null; }
ask draw "$work/pile"
ask ingest --data "$work/pile"
for verb in fingerprint embed; do ask $verb; done
ask curate
ask cut --size 32
ask plan --name tiny --preset demo --set pretrain.batch=8

# NAME TARGETS SETTINGS...
check() {
  local name=$1 targets=$2 folders=()
  shift 2
  local settings=()
  for setting in pretrain.steps=2 pretrain.batch=8 model.name= model.dim=64 model.depth=2 model.heads=4 "$@"; do
    settings+=(--set "$setting")
  done
  ask pretrain --plan tiny --run "$name" --device cpu --preset demo "${settings[@]}"
  for target in $targets; do
    ask export "$name" --to "$target" --example --out-dir "$work/exports/$name/$target"
    folders+=("$work/exports/$name/$target")
  done
  "$python" "$here/exports.py" "${folders[@]}"
}

check plain "timm transformers dinov2 safetensors onnx"
check registers "timm transformers dinov2 safetensors onnx" model.registers=4 model.layer_scale=0.1
check swiglu "timm transformers dinov2 safetensors onnx" model.feed_forward=swiglu
check rope "timm transformers safetensors onnx" model.positions=rope model.registers=2 model.layer_scale=0.1 model.norm_epsilon=1e-5
echo "every export computes what Lapidary computes"
