#!/usr/bin/env bash
# The picture of the page in the README: the failed recalls of a lane of the demo. It writes docs/page.png:
#
#   docs/page.sh
#
# Needed are go, curl and Chromium. It works in a folder of its own, on a free port, and leaves nothing else behind.
set -euo pipefail

cd "$(dirname "$0")/.."
work=$(mktemp -d)
demo=
finish() {
	if [ -n "$demo" ]; then kill "$demo" 2>/dev/null && wait "$demo" 2>/dev/null || true; fi
	rm -rf "$work"
}
trap finish EXIT

fail() {
	echo "page.sh: $*" >&2
	exit 1
}

browser=
for name in chromium chromium-browser google-chrome google-chrome-stable chrome; do
	if command -v "$name" >/dev/null; then browser=$name && break; fi
done
[ -n "$browser" ] || fail "no Chromium on PATH"

go build -o "$work/worker" ./cmd/worker
"$work/worker" --demo --listen 127.0.0.1:0 >"$work/demo.txt" 2>&1 &
demo=$!
for _ in $(seq 600); do
	if page=$(grep -o 'Look at http://[^ ]*/' "$work/demo.txt"); then break; fi
	sleep 0.1
done
page=${page#Look at }
[ -n "$page" ] || fail "the demo has not ended within a minute: $(cat "$work/demo.txt")"
curl -sf -o /dev/null "$page" || fail "nothing answers at $page"

# The page's columns are no wider in a wider window, but there is more room for "Last Error" where letters are smaller; the scale
# makes them readable again. The page asks for its figures every few seconds, so time is cut short for it.
"$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" \
	--window-size=1500,1190 --force-device-scale-factor=1.4 --blink-settings=defaultFontSize=12,defaultFixedFontSize=10 \
	--virtual-time-budget=8000 --screenshot="$work/page.png" "${page}queues/engagelab:demo?status=archived" >"$work/browser.log" 2>&1 ||
	fail "no picture: $(cat "$work/browser.log")"
[ -s "$work/page.png" ] || fail "no picture: $(cat "$work/browser.log")"
cp "$work/page.png" docs/page.png
