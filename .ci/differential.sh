#!/usr/bin/env bash
# The given program's emulator of Stripe against localstripe, another one: by plain requests, and through the adapter. It is
# installed into a temporary directory and runs as a program of its own.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")"

directory="$(mktemp -d)"
started=()
stop() {
  for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
  rm -rf "$directory"
}
trap stop EXIT

timeout 120 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
  --target "$directory/localstripe" "localstripe==1.15.10"
port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
# Its own command listens on every address.
serve="import sys; from aiohttp import web; from localstripe.server import app; \
web.run_app(app, host='127.0.0.1', port=int(sys.argv[1]))"
PYTHONPATH="$directory/localstripe" python3 -c "$serve" "$port" >"$directory/localstripe.log" 2>&1 &
started+=($!)
for _ in $(seq 100); do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
  sleep 0.1
done
mkfifo "$directory/front"
python3 localstripe_front.py "http://127.0.0.1:$port" >"$directory/front" &
started+=($!)
read -r front <"$directory/front"
# First, while localstripe has nothing else to tell: it sends its events a second later.
(
  cd ..
  TOLLGATE_LOCALSTRIPE_URL="$front" \
    timeout 250 cargo test --quiet --lib channels::stripe::tests::differential -- --nocapture
)
TOLLGATE_LOCALSTRIPE_URL="http://127.0.0.1:$port" timeout 120 python3 differential.py "$program"
