#!/usr/bin/env bash
# Prometheus' own tools accept the given program's figures and the alerts in deploy/, every figure that a dashboard or an
# alert names is there, and Prometheus answers every expression of them. They come from Debian if they are not here.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")"

if ! { command -v promtool && command -v prometheus; } >/dev/null; then
  timeout 300 apt-get install -y --no-install-recommends prometheus >/dev/null
fi
timeout 120 python3 metrics.py "$program"
