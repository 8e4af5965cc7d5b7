#!/usr/bin/env bash
# The paper's tables 1 and 2 (Podsiadly and Lay 2025): DINO, Barlow Twins and the hybrid of PRESET (paper, or a smaller one) on SIZE
# (256) images of DATA drawn at random, over SEEDS ("1"), measured on PROBE. Resumable. Writes OUT/paper/tables.txt, .csv,
# .json, .md and .tex.
#
#     tests/bench/paper.sh LAPIDARY
set -euo pipefail
lapidary=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
shared=${LAPIDARY_DATA:-$here/../../../shared/data}
out=${OUT:-out} data=${DATA:-$shared/coco} probe=${PROBE:-$shared/cifar10}
preset=${PRESET:-paper} size=${SIZE:-256} seeds=${SEEDS:-1} device=${DEVICE:-auto}
for folder in "$data" "$probe"; do
  [ -d "$folder" ] || { echo "no folder $folder: give DATA=<images> PROBE=<labelled images>"; exit 2; }
done
more=()
for key in ${SET:-}; do more+=(--set "$key"); done
common=(--out "$out" --quiet)
lap() { "$lapidary" "$@" "${common[@]}" "${more[@]}" > /dev/null; }
source=paper
lap ingest --data "$data" --name "$source"
lap ingest --data "$probe" --name paper-probe --as-probe
lap fingerprint --source "$source"
lap embed --source "$source"
# Drawn at random: no copy goes, one cluster, a random order.
lap curate --source "$source" --set 'curate.evidence=[]' --set 'curate.clusters=[1]' --set curate.leaf_order=random
lap cut --source "$source" --size "$size"
runs=()
for seed in $seeds; do
  lap plan --source "$source" --subset "$size" --name "$preset-s$seed" --preset "$preset" --set seed="$seed"
  for kind in barlow-twins dino hybrid; do
    run=$kind-$preset-s$seed
    runs+=("$run")
    echo "$(date +%H:%M:%S) $run"
    lap pretrain --source "$source" --plan "$preset-s$seed" --run "$run" --preset "$preset" --device "$device" \
      --set seed="$seed" --set objective.kind="$kind"
    lap eval --source "$source" --run "$run" --probe paper-probe --preset "$preset" --device "$device" --set seed="$seed"
  done
done
mkdir -p "$out/paper"
for format in text:txt csv:csv json:json markdown:md latex:tex; do
  "$lapidary" compare "${runs[@]}" --source "$source" --probe paper-probe --format "${format%:*}" "${common[@]}" \
    > "$out/paper/tables.${format#*:}"
done
cat "$out/paper/tables.txt"
echo "written: $out/paper/tables.{txt,csv,json,md,tex}"
