#!/usr/bin/env bash
# Copy detection beside fastdup and imagededup on planted copies of the COCO images of LAPIDARY_DATA, their speed, curation
# at a million embeddings, and balance; harder copies; images that only look alike. Its last line is a JSON object. EACH copies of
# each kind (20), LOOKALIKES of each (30), SEED (0). PARTS chooses: copies, hard, lookalikes, time, increments, scale, balance; and
# two that take long and are not among the usual ones: `real`, the whole chain on 10,000, 100,000 and IMAGES (1,000,000) images, and
# `sscd`, the descriptor of preset sscd trained and held beside the built-in evidence.
set -euo pipefail
lapidary=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
data=${LAPIDARY_DATA:-$here/../../../shared/data}
[ -d "$data/coco" ] || { echo "skipped: no images under $data (set LAPIDARY_DATA)"; exit 0; }
data=$(realpath "$data")
parts=${PARTS:-copies hard lookalikes time increments scale balance}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source "$here/venv.sh"
plain=$(venv bench-venv "pillow==11.3.0 imagehash==4.3.2 pyarrow==21.0.0 numpy==2.2.6 scipy==1.15.3")
has() { [[ " $parts " == *" $1 "* ]]; }
if has copies || has time || has scale; then
  fastdup=$(venv bench-fastdup "fastdup==2.54 faiss-cpu==1.12.0 numpy==1.26.4")
fi
if has copies || has time; then
  pins="imagededup==0.3.3.post2 torch==2.9.1 torchvision==0.24.1"
  imagededup=$(venv bench-imagededup "$pins" "${LAPIDARY_IMAGEDEDUP_VENV:-}")
fi
field() { python3 -c "import json,sys; v=json.loads(sys.stdin.readlines()[-1])
for k in '$1'.split('.'): v=v[k]
print(v)"; }
facts=$work/facts.jsonl
fact() { echo "{\"$1\": $2}" >> "$facts"; }
find_copies() { # find_copies IMAGES EVIDENCE TRUTH: prints the manifest
  rm -rf "$work/out"
  "$lapidary" duplicates "$1" --name bench --out "$work/out" --set "curate.evidence=$2" --set "curate.truth=$3" --json --quiet
}
all='["exact", "hash", "embedding", "local"]'

if has copies; then
  "$plain" "$here/plant_copies.py" "$data/coco" "$work/planted" --each "${EACH:-20}" --seed "${SEED:-0}"
  images=$work/planted/images; truth=$work/planted/truth.csv
  echo "copies: micro-AP and recall at 99 % precision, by evidence"
  for evidence in '["exact"]' '["exact", "hash"]' '["exact", "embedding"]' '["exact", "local"]' '["exact", "hash", "embedding"]' "$all"; do
    find_copies "$images" "$evidence" "$truth" > "$work/ours"
    printf '  %-42s %.4f  %.4f\n' "$evidence" "$(field facts.truth.pairs.micro_ap < "$work/ours")" "$(field facts.truth.pairs.recall_at_99 < "$work/ours")"
  done
  fact micro_ap "$(field facts.truth.pairs.micro_ap < "$work/ours")"; fact recall_at_99 "$(field facts.truth.pairs.recall_at_99 < "$work/ours")"
  "$fastdup" "$here/fastdup_peer.py" "$images" "$work/fastdup.csv" > /dev/null 2> "$work/log" || cat "$work/log"
  "$imagededup" "$here/imagededup_peer.py" "$images" "$work/imagededup.csv" > /dev/null 2> "$work/log" || cat "$work/log"
  for tool in fastdup imagededup; do
    "$lapidary" score "$work/$tool.csv" --truth "$truth" --json > "$work/$tool.score"
    fact "micro_ap_$tool" "$(field micro_ap < "$work/$tool.score")"; fact "recall_at_99_$tool" "$(field recall_at_99 < "$work/$tool.score")"
  done
  python3 - "$work" <<'PY'
import json, sys
work = sys.argv[1]
ours = json.loads(open(f"{work}/ours").readlines()[-1])["facts"]["truth"]["pairs"]
theirs = {tool: json.load(open(f"{work}/{tool}.score")) for tool in ("fastdup", "imagededup")}
tools = {"lapidary": ours, **theirs}
print(f"  {'':<12}" + "".join(f"{tool:>12}" for tool in tools))
for name in ("micro_ap", "recall_at_99"):
    print(f"  {name:<12}" + "".join(f"{score[name]:>12.4f}" for score in tools.values()))
for kind in ours["recall_by_kind"]:
    print(f"  {kind:<12}" + "".join(f"{score['recall_by_kind'][kind]:>12.2f}" for score in tools.values()))
PY
fi

if has hard; then
  for kinds in hard held-out; do
    "$plain" "$here/plant_copies.py" "$data/coco" "$work/$kinds" --each "${EACH:-20}" --seed "${SEED:-0}" "--$kinds"
    find_copies "$work/$kinds/images" "$all" "$work/$kinds/truth.csv" > "$work/ours"
    python3 - "$work/ours" "${kinds//-/_}" >> "$facts" <<'PY'
import json, sys
pairs = json.loads(open(sys.argv[1]).readlines()[-1])["facts"]["truth"]["pairs"]
print(f"{sys.argv[2]} kinds, recall: " + ", ".join(f"{kind} {share:.2f}" for kind, share in pairs["recall_by_kind"].items()), file=sys.stderr)
print(json.dumps({f"{name}_{sys.argv[2]}": pairs[name] for name in ("micro_ap", "recall_at_99")}))
PY
  done
fi

if has lookalikes; then
  "$plain" "$here/lookalikes.py" "$work/lookalikes" --each "${LOOKALIKES:-30}" --seed "${SEED:-0}" --more
  "$plain" "$here/lookalikes.py" "$work/lookalikes" --each "${LOOKALIKES:-30}" --seed "${SEED:-0}" --held-out
  rm -rf "$work/out"
  "$lapidary" duplicates "$work/lookalikes/images" --name bench --out "$work/out" --json --quiet > /dev/null
  "$plain" - "$work" >> "$facts" <<'PY'
import collections, glob, json, os, sys
import pyarrow.parquet
work = sys.argv[1]
kind = lambda path: os.path.basename(path).split("_")[0]
drawn = collections.Counter(map(kind, os.listdir(f"{work}/lookalikes/images")))
table = pyarrow.parquet.read_table(f"{work}/out/bench/duplicates/pairs.parquet", columns=["path_a", "path_b", "score"]).to_pylist()
wrong = {path for row in table if row["score"] >= 0.5 for path in (row["path_a"], row["path_b"])}
by_kind = collections.Counter(map(kind, wrong))
print("lookalikes in a group: " + ", ".join(f"{k} {by_kind[k]} of {n}" for k, n in sorted(drawn.items())), file=sys.stderr)
alike = sum(row["score"] > 0.9999 for row in table)
print(json.dumps({"lookalikes_wrong": len(wrong), "lookalikes_of": sum(drawn.values()), "lookalikes_at_1": alike}))
PY
fi

cifar_files() { # cifar_files FOLDER: the 50,000 of CIFAR-10 as files
  mkdir "$1"
  "$plain" - "$data/cifar10" "$1" <<'PY'
import pathlib, sys
import pyarrow.parquet
number = 0
for table in sorted(pathlib.Path(sys.argv[1]).rglob("*train*.parquet")):
    for image in pyarrow.parquet.read_table(table, columns=["image"])["image"].to_pylist():
        pathlib.Path(sys.argv[2], f"{number:05}.jpg").write_bytes(image["bytes"])
        number += 1
PY
}

if has time; then
  # Each tool's time is that of the whole process, from a cold start: their interpreters' imports are left out.
  clock() { python3 -c "import subprocess, sys, time; b = time.perf_counter(); subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(time.perf_counter() - b)" "$@"; }
  timed() { # timed NAME IMAGES COUNT ROUNDS
    find "$2" -type f -exec cat {} + > /dev/null
    rm -f "$work"/secs-*
    for round in $(seq "$4"); do
      rm -rf "$work/out"; clock env RAYON_NUM_THREADS=2 OMP_NUM_THREADS=2 "$lapidary" duplicates "$2" --name bench --out "$work/out" >> "$work/secs-all"
      rm -rf "$work/out"; clock env RAYON_NUM_THREADS=2 "$lapidary" duplicates "$2" --name bench --out "$work/out" --set 'curate.evidence=["exact", "hash"]' >> "$work/secs-hash"
      "$fastdup" "$here/fastdup_peer.py" "$2" "$work/fastdup.csv" 2> /dev/null | field secs >> "$work/secs-fastdup"
      "$imagededup" "$here/imagededup_peer.py" "$2" - 2> /dev/null | field secs >> "$work/secs-imagededup"
    done
    python3 - "$work" "$1" "$3" >> "$facts" <<'PY'
import json, sys
work, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
best = {tool: min(float(line) for line in open(f"{work}/secs-{tool}")) for tool in ("all", "hash", "fastdup", "imagededup")}
print(f"  {name}: " + ", ".join(f"{tool} {count / secs:.0f}/s" for tool, secs in best.items()), file=sys.stderr)
print(json.dumps({f"speed_vs_fastdup{name}": round(best["fastdup"] / best["all"], 2), f"hash_speed_vs_imagededup{name}": round(best["imagededup"] / best["hash"], 2)}))
PY
  }
  echo "time from a folder of files to groups, 2 threads, best of 3 rounds (CIFAR-10: of 1)"
  mkdir "$work/coco"; cp "$data"/coco/*2017/*.jpg "$work/coco"
  timed "" "$work/coco" "$(ls "$work/coco" | wc -l)" 3
  "$plain" "$here/plant_copies.py" "$data/coco" "$work/many" --each 90 --seed "${SEED:-0}"
  timed "_2500" "$work/many/images" "$(ls "$work/many/images" | wc -l)" 3
  cifar_files "$work/cifar"
  timed "_cifar" "$work/cifar" "$(ls "$work/cifar" | wc -l)" 1
fi

if has increments; then
  echo "increments: seconds of ingest, fingerprint, embed and curate, images being added to CIFAR-10"
  rm -rf "$work/cifar"; cifar_files "$work/cifar"; mkdir "$work/aside"
  mv "$work"/cifar/4[5-9]*.jpg "$work/aside"
  chain() { # chain OUT: prints the seconds and the images that were new
    for verb in "ingest --data $work/cifar" fingerprint embed curate; do
      "$lapidary" $verb --out "$1" --json --quiet 2> /dev/null
    done | python3 -c "
import json, sys
said = [json.loads(line) for line in sys.stdin]
print(round(sum(stage['wall_secs'] for stage in said), 1), said[0]['facts']['added'], said[3]['facts']['tree']['distance_ratio'])"
  }
  rm -rf "$work/out" "$work/whole"
  echo "  at first:     $(chain "$work/out")"
  mv "$work"/aside/450*.jpg "$work/cifar"; small=$(chain "$work/out"); echo "  added:        $small"
  mv "$work"/aside/*.jpg "$work/cifar"; large=$(chain "$work/out"); echo "  added:        $large"
  whole=$(chain "$work/whole"); echo "  all at once:  $whole"
  fact increment_100_of_whole "$(python3 -c "print(round(${small%% *} / ${whole%% *}, 3))")"
  fact increment_4900_of_whole "$(python3 -c "print(round(${large%% *} / ${whole%% *}, 3))")"
fi

if has scale; then
  echo "scale: synthetic embeddings of 384 values"
  LAPIDARY_BENCH_OUT=$work cargo bench --workspace --bench curation --quiet -- scale ${IMAGES:-1000000} > "$work/scale"
  head -n -1 "$work/scale"; tail -1 "$work/scale" >> "$facts"
  "$fastdup" "$here/faiss_peer.py" "$work" >> "$facts"
fi

if has real; then
  most=${IMAGES:-1000000}
  echo "real: images of CIFAR-10 and Tiny ImageNet, each with 7 drawn variants; seconds and peak memory (MiB) a stage"
  for images in 10000 100000 "$most"; do
    rm -rf "$work/real" "$work/out"
    "$plain" "$here/variants.py" "$data" "$work/real" --images "$images"
    for verb in "ingest --data $work/real --name real" "fingerprint --source real" "embed --source real" "curate --source real" "cut --source real --size 10%"; do
      "$lapidary" $verb --out "$work/out" --json --quiet --set "curate.memory_mib=${MEMORY_MIB:-3584}" 2> "$work/log" || { cat "$work/log"; exit 1; }
    done > "$work/said"
    python3 - "$images" "$work/said" >> "$work/real-secs" <<'PY'
import json, sys
images, secs, peak = int(sys.argv[1]), {}, 0
for line in open(sys.argv[2]):
    said = json.loads(line)
    for stage in said.get("stages") or [said]:
        secs[stage["stage"]] = stage["wall_secs"]
        peak = max(peak, stage["peak_memory_mib"])
        print(f"  {images:>8} {stage['stage']:<12} {stage['wall_secs']:>8.1f} s {stage['peak_memory_mib']:>6.0f} MiB", file=sys.stderr)
    if said["stage"] == "curate":
        facts = said["facts"]
        print(f"  {images:>8} {facts['pairs']} pairs, {facts['duplicate_groups']} groups, {facts['nobodys_copy']} kept, {facts['neighbours']['index']} index, recall {facts['neighbours']['recall']}", file=sys.stderr)
print(json.dumps({"images": images, "secs": sum(secs.values()), "peak": peak}))
PY
  done
  python3 - "$work/real-secs" >> "$facts" <<'PY'
import json, sys
ten_thousand, before, most = (json.loads(line) for line in open(sys.argv[1]))
print(json.dumps({"real_images": most["images"], "real_secs": round(most["secs"]), "real_peak_mib": round(most["peak"]), "real_growth": round(most["secs"] / before["secs"], 2), "real_growth_of_peak": round(most["peak"] / before["peak"], 2)}))
PY
fi

if has sscd; then
  echo "sscd: the preset trained on COCO's photographs; copies by the cosine of its descriptors alone, and by all evidence"
  "$plain" "$here/plant_copies.py" "$data/coco" "$work/planted" --each "${EACH:-20}" --seed "${SEED:-7}"
  rm -rf "$work/out"
  say() { "$lapidary" "$@" --out "$work/out" --quiet 2> "$work/log" || { cat "$work/log"; exit 1; }; }
  say ingest --data "$data/coco" --name photos > /dev/null
  for verb in fingerprint embed curate "cut --size 100%"; do say $verb --source photos > /dev/null; done
  say plan --source photos --preset sscd --set plan.epochs=70 > /dev/null
  say pretrain --source photos --preset sscd --run sscd --device cpu
  say ingest --data "$work/planted/images" --name planted > /dev/null
  say fingerprint --source planted > /dev/null
  say embed --source planted > /dev/null
  say embed --source planted --encoder photos/sscd --device cpu > /dev/null
  alone=(--set 'curate.evidence=["embedding"]' --set curate.correlation_min=-1 --set curate.neighbours=11)
  by_cosine() { # by_cosine NAME SETTING...
    name=$1; shift
    say curate --source planted "${alone[@]}" "$@" > /dev/null
    "$plain" - "$work" <<'PY'
import csv, sys
import pyarrow.parquet
work = sys.argv[1]
table = pyarrow.parquet.read_table(f"{work}/out/planted/curation/pairs/pairs.parquet", columns=["path_a", "path_b", "similarity"])
with open(f"{work}/cosine.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["path_a", "path_b", "score"])
    writer.writerows(row.values() for row in table.to_pylist() if row["similarity"] is not None)
PY
    "$lapidary" score "$work/cosine.csv" --truth "$work/planted/truth.csv" --json > "$work/score"
    printf '  %-36s micro-AP %.4f, recall at 99 %% precision %.4f\n' "$name" "$(field micro_ap < "$work/score")" "$(field recall_at_99 < "$work/score")"
  }
  by_cosine "built-in descriptor" --set curate.copy_similarity_min=0.2
  by_cosine "built-in, whitened to 128" --set curate.copy_similarity_min=0.05 --set curate.whiten_dim=128
  by_cosine "sscd" --set curate.copy_similarity_min=0.2 --set embed.encoder=sscd
  by_cosine "sscd, whitened to 256" --set curate.copy_similarity_min=0.05 --set embed.encoder=sscd --set curate.whiten_dim=256
  fact micro_ap_sscd "$(field micro_ap < "$work/score")"
  say curate --source planted --set embed.encoder=sscd --set "curate.truth=$work/planted/truth.csv" --json > "$work/ours"
  fact micro_ap_all_with_sscd "$(field facts.truth.pairs.micro_ap < "$work/ours")"
fi

if has balance; then
  echo "balance"
  cargo bench --workspace --bench curation --quiet -- balance > "$work/balance"
  head -n -1 "$work/balance"; tail -1 "$work/balance" >> "$facts"
fi

python3 -c "
import json
whole = {}
for line in open('$facts'): whole.update(json.loads(line))
print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in whole.items()}))"
