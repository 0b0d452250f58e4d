#!/usr/bin/env bash
# Runs the commands of README.md's first hour as they stand, against a gateway started with the given program.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")"
timeout 120 python3 readme.py "$program"
