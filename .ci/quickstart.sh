#!/usr/bin/env bash
# Runs every block of docs/quickstart.md as it stands, against a gateway started with the given program.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")"
timeout 120 python3 quickstart.py "$program"
