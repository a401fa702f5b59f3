#!/usr/bin/env bash
# Prints nothing when a Chromium is there; installs Debian's as root otherwise.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done

if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "The browser tests need Chromium, and none of chromium, chromium-browser, google-chrome is on PATH." >&2
  echo "Install it (on Debian, as root: apt-get install chromium) and run this again." >&2
  exit 1
fi

echo "==> Chromium for the browser tests (apt-get)"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && apt-get install --yes --no-install-recommends chromium fonts-liberation; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "apt-get could not install chromium (its last lines are above)." >&2
  echo "Install a Chromium by hand and run this again." >&2
  exit 1
fi
