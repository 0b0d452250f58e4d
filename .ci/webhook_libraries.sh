#!/usr/bin/env bash
# The official Standard Webhooks libraries of Python and JavaScript accept what the given program sends, and refuse it when
# it was changed; the receivers of docs/webhook-verification.md do so too. They are installed into a temporary directory.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")"

directory="$(mktemp -d)"
trap 'rm -rf "$directory"' EXIT

timeout 120 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
  --target "$directory/python" "standardwebhooks==1.1.0"
timeout 120 npm install --silent --no-audit --no-fund --ignore-scripts \
  --prefix "$directory/javascript" "standardwebhooks@1.1.1"

PYTHONPATH="$directory/python" timeout 120 python3 webhook_libraries.py "$program" "$directory/javascript"
PYTHONPATH="$directory/python" timeout 120 python3 webhook_receivers.py "$program" "$directory/javascript"
