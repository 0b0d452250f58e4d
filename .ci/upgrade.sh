#!/usr/bin/env bash
# The given program beside an earlier one, in turn on one data directory: an upgrade, and the way back. The earlier one is
# built from the history of this clone, once, without optimizations, from the dependencies of `cargo test` where they are the
# same. Without that history nothing can be gone back to, which is said; that old stores open is tried by `cargo test`
# (tests/it/fixture.rs) in any case.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")/.."

# What is gone back to: the last release, and before the first one what made tests/fixtures/store-v1c.
before="7ef8c868ef40b6c8471e6c7238c2d81eb5340a78"
target="${CARGO_TARGET_DIR:-target}"
folder="$target/before/$before"

if [ ! -x "$folder/debug/tollgate" ]; then
  if ! git cat-file -e "$before^{commit}" 2>/dev/null; then
    echo "LEFT OUT: going back to the program of $before, which is not in the history here (git fetch --unshallow brings it)"
    exit 0
  fi
  mkdir -p "$folder/source"
  git archive "$before" | tar -x -C "$folder/source"
  # Only the program itself goes to a folder of its own, so that nothing of today's is overwritten.
  CARGO_BUILD_BUILD_DIR="$(realpath "$target")" timeout --kill-after=30 1200 \
    cargo build --locked --manifest-path "$folder/source/Cargo.toml" --target-dir "$folder"
  rm -rf "$folder/source"
fi
PYTHONDONTWRITEBYTECODE=1 timeout --kill-after=30 300 python3 .ci/upgrade.py "$folder/debug/tollgate" "$program"
