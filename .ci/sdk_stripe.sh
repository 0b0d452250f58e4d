#!/usr/bin/env bash
# Stripe's own library for Python accepts the given program's emulator of Stripe, and so does a comparison with localstripe,
# which is run as a program of its own. Both are installed into a temporary directory.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")"

directory="$(mktemp -d)"
localstripe=""
stop() {
  if [ -n "$localstripe" ]; then kill "$localstripe" 2>/dev/null || true; fi
  rm -rf "$directory"
}
trap stop EXIT

install() {
  timeout 120 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$1" "$2"
}
install "$directory/stripe" "stripe==16.1.0"
install "$directory/localstripe" "localstripe==1.15.10"

PYTHONPATH="$directory/stripe" timeout 120 python3 sdk_stripe.py "$program"

port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
# Its own command listens on every address.
serve="import sys; from aiohttp import web; from localstripe.server import app; \
web.run_app(app, host='127.0.0.1', port=int(sys.argv[1]))"
PYTHONPATH="$directory/localstripe" python3 -c "$serve" "$port" >"$directory/localstripe.log" 2>&1 &
localstripe=$!
for _ in $(seq 100); do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
  sleep 0.1
done
TOLLGATE_LOCALSTRIPE_URL="http://127.0.0.1:$port" timeout 120 python3 differential.py "$program"
