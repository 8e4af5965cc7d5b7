#!/usr/bin/env bash
# What the objectives, alpha and curation are worth, on CIFAR-10 with preset cifar-vitti4. Resumable: typed again, it goes on
# after the last whole run; each run is a line of OUT/science.jsonl (what `lapidary compare --from` reads), the most telling
# runs come first, and `science.sh LAPIDARY table` prints means, spreads and differences at any time.
#
#     tests/bench/science.sh LAPIDARY [run|table]
#
# 1. objectives: hybrid, DINO, Barlow Twins on LARGEST (1000) images of each class, beside the untrained network: equal plans,
#    STEPS (400) steps; alpha (the weight of the DINO loss) 0.3 and 3 beside the hybrid's 1.
# 2. curation: a pool of POOL (5000) images of the first class, a hundredth of that of the last, 20 % planted near-copies; of it
#    SUBSET (4000) images: at random, deduplicated, balanced, both (curated), and curated by features of the run on the
#    random subset (learned). Everything else is equal, the order inside a cluster random.
# SEEDS ("1 2 3"), SCIENCE_PARTS ("objectives curation alpha learned"), OUT (out/science), LAPIDARY_DATA. A rehearsal of other sizes
# wants an OUT of its own: OUT=/tmp/r SCIENCE_STEPS=5 SEEDS=1 LARGEST=60 POOL=300 SUBSET=200.
set -euo pipefail
lapidary=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
data=${LAPIDARY_DATA:-$here/../../../shared/data}
out=${OUT:-out/science}
steps=${SCIENCE_STEPS:-400} largest=${LARGEST:-1000} pool=${POOL:-5000} subset=${SUBSET:-4000}
seeds=${SEEDS:-1 2 3} parts=${SCIENCE_PARTS:-objectives curation alpha learned}
lines=$out/science.jsonl subsets=$out/subsets.jsonl

table() {
  [ -s "$lines" ] || { echo "no run is there yet: make science"; exit 1; }
  # Runs of rehearsals have other numbers of steps, and are left out.
  for part in objectives curation; do
    source=c10; [ "$part" = curation ] && source=tailed
    grep "\"source\":\"$source\"" "$lines" | grep "\"steps\":$steps[,}]" > "$out/$part.jsonl" || continue
    echo "== $part"
    "$lapidary" compare --from "$out/$part.jsonl" --out "$out" --format "${FORMAT:-text}"
    "$lapidary" compare --from "$out/$part.jsonl" --out "$out" --format html > "$out/$part.html"
    echo
  done
  [ -s "$subsets" ] && python3 - "$subsets" <<'PY'
import json, statistics, sys
rows = {}
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows.setdefault(row["arm"], {})[row["seed"]] = row
print(f"{'subset':<10} {'runs':>4} {'images':>7} {'originals':>16} {'classes by entropy':>19} {'least class':>12}")
for arm, by_seed in rows.items():
    of = lambda pick: [pick(row) for row in by_seed.values()]
    said = lambda xs, f: f"{statistics.mean(xs):{f}}" + (f" ± {statistics.stdev(xs):{f}}" if len(xs) > 1 else "")
    print(f"{arm:<10} {len(by_seed):>4} {of(lambda r: r['images'])[0]:>7} {said(of(lambda r: r['originals']), '.0f'):>16} "
          f"{said(of(lambda r: r['effective_classes']), '.2f'):>19} {said(of(lambda r: min(r['classes'].values())), '.0f'):>12}")
PY
  return 0
}
if [ "${2:-run}" = table ]; then table; exit 0; fi

[ -d "$data/cifar10" ] || { echo "skipped: no images under $data (set LAPIDARY_DATA)"; exit 0; }
has() { [[ " $parts " == *" $1 "* ]]; }
mkdir -p "$out/data"
out=$(realpath "$out"); lines=$out/science.jsonl subsets=$out/subsets.jsonl
data=$(realpath "$data")
cd "$here/../.."
bench=$(cargo bench --workspace --bench pool --no-run --message-format=json 2> /dev/null | python3 -c "
import json, sys
for line in sys.stdin:
    said = json.loads(line)
    if said.get('target', {}).get('name') == 'pool' and said.get('executable'):
        print(said['executable'])" | tail -1)
common=(--out "$out" --quiet)
# All test images: of 2,000 an accuracy is known to a point. Few C: the largest and the smallest of the usual twelve are never
# chosen here, and each takes as long.
eval_knobs=(--set 'eval.logistic_c=[0.01,0.1,1.0,10.0]' --set 'eval.labels_per_class=[]' --set 'eval.label_shares=[0.1,1.0]'
  --set eval.view_images=0 --set eval.attention_images=0 --set eval.max_test=0 --set eval.dino_linear.epochs=0
  --set eval.dinov2_linear.iterations=0 --set eval.mlp.steps=0 --set eval.copy_images=0 --set eval.dense_images=0
  --set eval.video_sequences=0 --set eval.robustness_images=0 --set eval.neighbour_queries=0 --set eval.map_images=0)
lap() { "$lapidary" "$@" "${common[@]}" > /dev/null; }
there() { [ -f "$lines" ] && grep -q "\"run\":\"$1\"" "$lines"; }
# train SOURCE PLAN RUN ARM SEED [KNOBS]: a run, its evaluation, its line.
train() {
  local source=$1 plan=$2 run=$3 arm=$4 seed=$5; shift 5
  there "$run" && return 0
  echo "$(date +%H:%M:%S) $run"
  local knobs=(--preset cifar-vitti4 --set seed="$seed" --set pretrain.steps="$steps")
  lap pretrain --source "$source" --plan "$plan" --run "$run" "${knobs[@]}" "$@"
  lap eval --source "$source" --run "$run" --probe cifar10 "${knobs[@]}" "${eval_knobs[@]}"
  "$lapidary" compare "$source/$run" --probe cifar10 --called "$arm" --format jsonl "${common[@]}" >> "$lines.part"
  # A line is whole or not there.
  cat "$lines.part" >> "$lines"; rm "$lines.part"
}
plan() { # plan SOURCE SUBSET NAME SEED
  lap plan --source "$1" --subset "$2" --name "$3" --preset cifar-vitti4 --set seed="$4" --set pretrain.steps="$steps"
}
# What arms are made of; the order inside a cluster is random in all, so that they differ in one thing.
no_copies=(--set 'curate.evidence=[]') one_cluster=(--set 'curate.clusters=[1]') shuffled=(--set curate.leaf_order=random)

rm -f "$lines.part"
lap ingest --data "$data/cifar10" --name cifar10 --as-probe
"$bench" draw "$out/cifar10/images" "$out/data/c10" "$largest" 1 0 1
"$bench" draw "$out/cifar10/images" "$out/data/tailed" "$pool" 100 0.2 1
for source in c10 tailed; do
  lap ingest --data "$out/data/$source" --name "$source" --aside
  lap fingerprint --source "$source"
  lap embed --source "$source"
done
lap curate --source c10 "${no_copies[@]}" "${one_cluster[@]}" "${shuffled[@]}"
lap cut --source c10 --size all

objectives() { # objectives SEED
  plan c10 all "s$1-$steps" "$1"
  for kind in hybrid dino barlow-twins; do
    train c10 "s$1-$steps" "$kind-$steps-s$1" "$kind" "$1" --set objective.kind="$kind"
  done
}
alpha() { # alpha SEED
  plan c10 all "s$1-$steps" "$1"
  for weight in 0.3 3.0; do
    train c10 "s$1-$steps" "alpha-$weight-$steps-s$1" "alpha $weight" "$1" --set objective.dino_weight="$weight"
  done
}
arm() { # arm NAME SEED KNOBS
  local name=$1 seed=$2; shift 2
  there "$name-$steps-s$seed" && return 0
  lap curate --source tailed --set seed="$seed" "${shuffled[@]}" "$@"
  lap cut --source tailed --size "$subset"
  plan tailed "$subset" "$name-s$seed-$steps" "$seed"
  local told; told=$("$bench" stats "$out/tailed/images" "$out/tailed/subsets/$subset")
  echo "{\"arm\": \"$name\", \"seed\": $seed, ${told#\{}" >> "$subsets"
  train tailed "$name-s$seed-$steps" "$name-$steps-s$seed" "$name" "$seed"
}
curation() { # curation SEED
  arm random "$1" "${no_copies[@]}" "${one_cluster[@]}"
  arm curated "$1"
  arm dedup "$1" "${one_cluster[@]}"
  arm balance "$1" "${no_copies[@]}"
}
learned() { # learned SEED
  there "learned-$steps-s$1" && return 0
  there "random-$steps-s$1" || return 0
  lap embed --source tailed --encoder "random-$steps-s$1"
  arm learned "$1" --set embed.encoder="random-$steps-s$1"
}
for seed in $seeds; do
  for part in objectives curation alpha learned; do
    if has "$part"; then "$part" "$seed"; fi
  done
done
table
