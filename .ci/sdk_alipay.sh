#!/usr/bin/env bash
# Alipay's official SDK for Node can hold, take and let go money at the given program's emulator, and accepts what it is told.
# It is installed into a temporary directory.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")"

directory="$(mktemp -d)"
trap 'rm -rf "$directory"' EXIT

timeout 300 npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$directory" "alipay-sdk@4.14.0"
timeout 120 node sdk_alipay.mjs "$program" "$directory"
