#!/usr/bin/env bash
# A picture of a report, by a browser: where it begins, and beside that its duplicate groups and curves.
#
#   tests/bench/report_picture.sh REPORT.html PICTURE.png
set -euo pipefail

report=$(realpath "$1") picture=$2
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) \
  || { echo "no chromium: make setup installs it"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
frame() { echo "<iframe src=\"file://$report#$1\" style=\"border:0;width:800px;height:$2px;display:block;margin-bottom:8px\"></iframe>"; }
cat > "$work/frame.html" <<HTML
<!DOCTYPE html><body style="margin:0;background:#777;display:flex;gap:8px">
<div>$(frame found 1000)</div><div>$(frame duplicates 330)$(frame training 662)</div>
HTML
"$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=9000 --window-size=1608,1000 \
  --blink-settings=preferredColorScheme=1 --screenshot="$work/picture.png" "file://$work/frame.html" 2>/dev/null
mv "$work/picture.png" "$picture"
echo "picture     $picture ($(stat -c %s "$picture") bytes)"
