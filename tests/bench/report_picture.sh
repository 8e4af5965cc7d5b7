#!/usr/bin/env bash
# A picture of a report, by a browser: its first screens, light beside dark.
#
#   tests/bench/report_picture.sh REPORT.html PICTURE.png
set -euo pipefail

report=$(realpath "$1") picture=$2
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) \
  || { echo "no chromium: make setup BROWSER=1 installs it"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/frame.html" <<HTML
<!DOCTYPE html><body style="margin:0;background:#888"><iframe src="file://$report" style="border:0;width:1180px;height:1900px"></iframe>
HTML
"$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=8000 --window-size=1180,1900 \
  --blink-settings=preferredColorScheme=1 --screenshot="$work/picture.png" "file://$work/frame.html" 2>/dev/null
mv "$work/picture.png" "$picture"
echo "picture     $picture ($(stat -c %s "$picture") bytes)"
