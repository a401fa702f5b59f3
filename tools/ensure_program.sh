#!/usr/bin/env bash
# ensure_program.sh WHAT_FOR "PROGRAM..." "PACKAGE...": prints nothing when one of the programs is there; installs the
# Debian packages as root otherwise.
set -euo pipefail
what_for=$1 programs=$2 packages=$3

for name in $programs; do
  if PATH="$PATH:/usr/sbin" command -v "$name" >/dev/null; then exit 0; fi
done

if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "$what_for: none of these programs is on PATH: $programs" >&2
  echo "Install one (on Debian, as root: apt-get install $packages) and run this again." >&2
  exit 1
fi

echo "==> $packages for $what_for (apt-get)"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 - several packages
if ! { apt-get update && apt-get install --yes --no-install-recommends $packages; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "apt-get could not install $packages (its last lines are above). Install it by hand and run this again." >&2
  exit 1
fi
