#!/usr/bin/env bash
# The given program's OpenAPI document is valid, and schemathesis finds no answer of its two listeners that is not in it: no
# other status, body or content type, no server error, nothing that is taken though the document refuses it. The tools are
# installed into a temporary directory; a folder given as second argument keeps them for the next run.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")"

directory="$(mktemp -d)"
trap 'rm -rf "$directory"' EXIT
tools="${2:-$directory/tools}"

if [ ! -x "$tools/bin/schemathesis" ]; then
  python3 -m venv "$tools"
  timeout 240 "$tools/bin/pip" install --quiet --disable-pip-version-check \
    "openapi-spec-validator==0.9.0" "schemathesis==4.32.5"
fi

"$program" openapi > "$directory/openapi.json"
timeout 60 "$tools/bin/openapi-spec-validator" --schema 3.1 "$directory/openapi.json"
PATH="$tools/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 timeout --kill-after=30 600 "$tools/bin/python" openapi.py "$program" "$directory"
