#!/usr/bin/env bash
# Stripe's own library for Python accepts the given program's emulator of Stripe. It is installed into a temporary directory.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")"

directory="$(mktemp -d)"
trap 'rm -rf "$directory"' EXIT

timeout 120 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
  --target "$directory" "stripe==16.1.0"
PYTHONPATH="$directory" timeout 120 python3 sdk_stripe.py "$program"
