#!/usr/bin/env bash
# Uses the console of the given program in a real browser, as an operator does: with a mouse, with the keyboard alone, on a
# phone, in the dark, without scripts, and by the rules of accessibility. With a second argument pictures of the pages are put
# into that folder. The browser is Debian's; what drives it is installed into a temporary directory.
set -euo pipefail
program="$(realpath "$1")"
pictures="${2:+$(mkdir -p "$2" && realpath "$2")}"
cd "$(dirname "$0")"

directory="$(mktemp -d)"
trap 'rm -rf "$directory"' EXIT

if ! command -v chromium > /dev/null; then
  timeout 120 apt-get update -qq
  timeout 300 apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null
fi
PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 timeout 120 npm install --silent --no-audit --no-fund --ignore-scripts \
  --prefix "$directory/javascript" "playwright-core@1.65.1" "axe-core@4.14.1"
# Pictures need some minutes of payments first.
timeout --kill-after=10 "$([ -n "$pictures" ] && echo 900 || echo 240)" python3 browser.py "$program" "$directory" "$pictures"
