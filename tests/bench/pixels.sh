#!/usr/bin/env bash
# The ten views of the DinoTwins recipe on COCO images of LAPIDARY_DATA: ours beside torchvision and albumentations, in
# interleaved rounds, the best of each. Its last line is a JSON object; its ratios are on one core.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=${LAPIDARY_DATA:-$here/../../../shared/data}
[ -d "$data/coco" ] || { echo "skipped: no images under $data (set LAPIDARY_DATA)"; exit 0; }
data=$(realpath "$data")
images=${IMAGES:-216}
source "$here/venv.sh"
pins="torch==2.9.1 torchvision==0.24.1 pillow==11.3.0 numpy==2.2.6 albumentations==2.0.8"
python=$(venv pixels-venv "$pins" "${LAPIDARY_PIXELS_VENV:-}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo build --release --workspace --benches --quiet
for round in 1 2 3; do
  cargo bench --workspace --bench pixels --quiet -- "$data/coco" "$images" > "$work/ours"
  tail -1 "$work/ours" >> "$work/rounds"
  NO_ALBUMENTATIONS_UPDATE=1 "$python" "$here/pixels_peers.py" "$data/coco" "$images" 2> /dev/null | tail -1 >> "$work/peers"
done
echo "the last round of ours, step by step, one thread"
cat "$work/ours" | head -n -1
python3 - "$work/rounds" "$work/peers" <<'PY'
import json, sys
best = lambda path: {k: min(r[k] for r in rounds) for rounds in [[json.loads(l) for l in open(path)]] for k in rounds[0]}
ours, peers = best(sys.argv[1]), best(sys.argv[2])
for name, ms in [*ours.items(), *peers.items()]:
    print(f"  {name:<22} {ms:6.2f} ms an image, {1000 / ms:5.0f} images/s")
print(json.dumps({
    "vs_torchvision": round(peers["torchvision"] / ours["one_thread"], 2),
    "vs_torchvision_decoded": round(peers["torchvision_decoded"] / ours["decoded"], 2),
    "vs_albumentations": round(peers["albumentations"] / ours["one_thread"], 2),
    "ms_per_image": round(ours["one_thread"], 2),
}))
PY
