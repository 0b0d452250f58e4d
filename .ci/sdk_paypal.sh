#!/usr/bin/env bash
# PayPal's own library for Python accepts the given program's emulator of PayPal. It is installed into a temporary directory.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")"

directory="$(mktemp -d)"
trap 'rm -rf "$directory"' EXIT

timeout 120 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
  --target "$directory" "paypal-server-sdk==2.4.0"
PYTHONPATH="$directory" timeout 120 python3 sdk_paypal.py "$program"
