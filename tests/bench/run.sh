#!/usr/bin/env bash
# Times beside Python's in one run, on the COCO and CIFAR-10 images of LAPIDARY_DATA. Its last line is a JSON object.
set -euo pipefail
lapidary=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
data=${LAPIDARY_DATA:-$here/../../../shared/data}
[ -d "$data/coco" ] || { echo "skipped: no images under $data (set LAPIDARY_DATA)"; exit 0; }
data=$(realpath "$data")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source "$here/venv.sh"
python=$(venv bench-venv "pillow==11.3.0 imagehash==4.3.2 pyarrow==21.0.0 numpy==2.2.6 scipy==1.15.3" "${LAPIDARY_VENV:-}")
field() { python3 -c "import json,sys; v=json.loads(sys.stdin.readlines()[-1])
for k in '$1'.split('.'): v=v[k]
print(v)"; }
say() { "$lapidary" "$@" --json --quiet; }
fresh() { rm -rf "$work/out"; }
cat "$data"/coco/*2017/*.jpg > /dev/null

echo "ingest, 648 COCO images: five rounds each, interleaved; the best counts"
ours=1e9; theirs=1e9
for round in 1 2 3 4 5; do
  # Ours is synced to the disk before it counts as done: it must not wait for what others wrote.
  fresh; sync; secs=$(say ingest --data "$data/coco" --out "$work/out" | field wall_secs)
  ours=$(python3 -c "print(min($ours, $secs))")
  secs=$("$python" "$here/ingest_peer.py" "$data/coco" "$work/peer.parquet" | field secs)
  theirs=$(python3 -c "print(min($theirs, $secs))")
done
peak=$(say ingest --data "$data/coco" --out "$work/out" | field peak_memory_mib)
ratio=$(python3 -c "print(round($theirs / $ours, 2))")
python3 -c "print(f'  lapidary {648/$ours:.0f}/s, Python {648/$theirs:.0f}/s: {$ratio} times as fast; peak {$peak:.0f} MiB')"

echo "ingest's memory: 490 images, and the same six and eighteen times over"
for copy in 1 2 3 4 5 6; do mkdir -p "$work/six/$copy"; cp -r "$data/coco/train2017" "$data/coco/unlabeled2017" "$work/six/$copy"; done
mkdir -p "$work/eighteen"; for copy in 1 2 3; do cp -rl "$work/six" "$work/eighteen/$copy"; done
memory_of() { rm -rf "$work/m"; say ingest --data "$1" --out "$work/m" | field peak_memory_mib; }
once=$(memory_of "$work/six/1"); sixfold=$(memory_of "$work/six"); eighteenfold=$(memory_of "$work/eighteen")
python3 -c "print(f'  490 images {$once:.0f} MiB, 2940 images {$sixfold:.0f} MiB, 8820 images {$eighteenfold:.0f} MiB')"
rm -rf "$work/six" "$work/eighteen" "$work/m"

echo "curation of 60,000 CIFAR-10 images: ingest, fingerprint, embed, curate, cut"
fresh; begun=$(date +%s.%N)
say ingest --data "$data/cifar10" --out "$work/out" > "$work/i"; say fingerprint --out "$work/out" > /dev/null; say embed --out "$work/out" > "$work/e"
say curate --out "$work/out" > "$work/c"; say cut --size 10000 --out "$work/out" > /dev/null
curation=$(python3 -c "import time; print(round(time.time() - $begun, 1))")
curate_peak=$(field peak_memory_mib < "$work/c")
python3 -c "print(f'  {$curation} s in all, of which curate $(field wall_secs < "$work/c") s; peak of curate {$curate_peak:.0f} MiB')"
cut=$(python3 - "$lapidary" "$work/out" <<'PY'
import subprocess, sys, time
best = 1e9
for size in range(20000, 20005):
    begun = time.perf_counter()
    subprocess.run([sys.argv[1], "cut", "--size", str(size), "--out", sys.argv[2], "--quiet"], check=True, stdout=subprocess.DEVNULL)
    best = min(best, time.perf_counter() - begun)
print(round(best * 1000, 1))
PY
)
echo "  cut of 20,000, process and all: $cut ms"

planned=$(say plan --set plan.recipe=dinotwins --set plan.epochs=2 --out "$work/out" | tail -1)
plan_rate=$(echo "$planned" | field rows_per_sec); plan_bytes=$(echo "$planned" | field facts.bytes_per_view)
python3 -c "print(f'  plan of $(echo "$planned" | field rows.output) views: {$plan_rate:.0f} views/s, {$plan_bytes:.1f} bytes a view')"

echo "pretraining on 648 COCO images, preset demo, 40 steps"
fresh; say ingest --data "$data/coco" --out "$work/out" > /dev/null; say fingerprint --out "$work/out" > /dev/null; say embed --out "$work/out" > /dev/null
say curate --out "$work/out" > /dev/null; say cut --out "$work/out" > /dev/null
knobs=(--preset demo --set pretrain.steps=40 --out "$work/out")
say plan "${knobs[@]}" > /dev/null; say pretrain "${knobs[@]}" --device cpu > "$work/p"
steps=$(field facts.steps_per_sec < "$work/p"); wait=$(field facts.data_wait_share < "$work/p")
python3 -c "print(f'  {$steps:.2f} steps/s, waiting for data {$wait * 100:.1f} % of the time')"

python3 -c "import json; print(json.dumps({'ingest_vs_python': $ratio, 'ingest_images_per_sec': round(648/$ours), 'ingest_peak_mib': round($peak), 'ingest_peak_mib_once_sixfold_eighteenfold': [round($once), round($sixfold), round($eighteenfold)], 'curation_60k_secs': $curation, 'curate_peak_mib': round($curate_peak), 'cut_ms': $cut, 'plan_views_per_sec': round($plan_rate), 'plan_bytes_per_view': round($plan_bytes, 1), 'pretrain_steps_per_sec': round($steps, 2), 'data_wait_share': round($wait, 4)}))"
