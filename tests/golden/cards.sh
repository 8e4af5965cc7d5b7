#!/usr/bin/env bash
# Writes the cards of a subset, exported in each way, and of a run of the built-in data and holds them against the tools that read them
# (tests/golden/cards.py): mlcroissant, datasets and huggingface_hub.
#
#   LAPIDARY_PYTHON=python tests/golden/cards.sh [path/to/lapidary]
#
# LAPIDARY_PYTHON is a Python with mlcroissant, datasets, huggingface_hub and Pillow. With GOLDEN=1 the metadata that was found valid
# becomes tests/golden/croissant.json (and croissant-folder.json, croissant-coco.json), which the tests hold later ones against.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lapidary=${1:-${CARGO_TARGET_DIR:-$here/../../target}/release/lapidary}
python=${LAPIDARY_PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ask() { "$lapidary" "$@" --out "$work/out" --quiet >/dev/null; }
ask draw "$work/pile"
ask draw "$work/probe" --probe
# Shards of a MiB, so that there are several.
ask ingest --data "$work/pile" --set ingest.shard_mib=1 --set ingest.row_group_mib=1
ask ingest --data "$work/probe" --as-probe
for verb in fingerprint embed curate; do ask $verb; done
for format in parquet folder coco; do ask cut --size 120 --export $format; done
ask card
tiny=(--preset demo --set model.dim=24 --set model.depth=2 --set pretrain.batch=16 --set pretrain.steps=6 --set pretrain.warmup_steps=2
  --set pretrain.freeze_last_layer_steps=1 --set eval.max_train=160 --set eval.max_test=80 --set eval.linear_steps=20)
ask plan --name tiny "${tiny[@]}"
ask pretrain --run tiny --device cpu "${tiny[@]}"
ask eval --device cpu "${tiny[@]}"
ask card --run tiny
"$python" "$here/cards.py" "$work/out/pile/subsets/120" "$work/out/pile/cards/tiny" 120
if [ "${GOLDEN:-}" = 1 ]; then
  cp "$work/out/pile/subsets/120.parquet/croissant.json" "$here/croissant.json"
  for format in folder coco; do cp "$work/out/pile/subsets/120.$format/croissant.json" "$here/croissant-$format.json"; done
fi
