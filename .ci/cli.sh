#!/usr/bin/env bash
# The given program's command line as shells and man see it, and its operator's commands against a gateway found by its
# configuration alone: the manual renders without complaints, bash completes, a file that was changed is read again.
set -euo pipefail
program="$(realpath "$1")"

directory="$(mktemp -d)"
gateway=""
cleanup() {
  if [ -n "$gateway" ]; then
    kill "$gateway" 2>/dev/null || true
    wait "$gateway" 2>/dev/null || true
  fi
  rm -rf "$directory"
}
trap cleanup EXIT
cd "$directory"
fail() { printf '%s\n' "$*" >&2; exit 1; }

if ! command -v man > /dev/null; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends man-db groff-base > /dev/null
fi
rendered() { LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l "$1"; }
"$program" man --dir man1 > /dev/null
for page in man1/*.1; do
  rendered "$page" > page 2> complaints
  if [ -s complaints ]; then fail "$page: $(cat complaints)"; fi
  grep -q "$(basename "$page" .1)" page || fail "$page does not render"
done
rendered man1/tollgate-payment-list.1 | grep -q 'tollgate payment list --status failed' || fail "a page has no examples"

for shell in bash zsh fish; do "$program" completions "$shell" > "tollgate.$shell"; done
bash -n tollgate.bash
for shell in zsh fish; do
  if command -v "$shell" > /dev/null; then "$shell" -n "tollgate.$shell"; fi
done

# A gateway on ports of its own, and a configuration that says so.
ports="$(python3 -c 'import socket
taken = [socket.socket() for _ in range(2)]
for s in taken: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in taken))')"
read -r port admin_port <<< "$ports"
cat > config.toml <<TOML
[server]
listen = "127.0.0.1:$port"
admin_listen = "127.0.0.1:$admin_port"
[storage]
dir = "$directory/data"
ballast_bytes = 0
TOML
export TOLLGATE_CONFIG="$directory/config.toml"
if "$program" status 2> error; then fail "there is a status without a gateway"; fi
grep -q 'no admin token' error || fail "$(cat error)"
"$program" serve > log 2>&1 &
gateway=$!
for _ in $(seq 100); do "$program" status > status 2> error && break; sleep 0.1; done
grep -q 'ready' status || fail "$(cat error log)"
"$program" merchant create 'Corner Shop' --tier starter --json > merchant
python3 -c 'import json; key = json.load(open("merchant"))["key"]; print(key["id"], key["secret"])' > key
read -r TOLLGATE_KEY TOLLGATE_SECRET < key
export TOLLGATE_KEY TOLLGATE_SECRET
"$program" request POST /api/v1/payments --url "http://127.0.0.1:$port" \
  --data '{"order_no":"O-1","amount":4500,"currency":"EUR"}' > /dev/null
"$program" payment list --order O-1 | grep -q '45.00 EUR' || fail "the payment is not listed"
"$program" payment list | head -1 > /dev/null
printf '[telemetry]\nlog = "warn"\n' >> config.toml
"$program" reload | grep -q 'telemetry.log' || fail "the changed file was not read"
"$program" store backup "$directory/backup" --json | grep -q '"done"' || fail "no backup"
"$program" store verify "$directory/backup" | grep -q 'is whole' || fail "the backup is not whole"
kill "$gateway"
wait "$gateway" || fail "the gateway did not stop well"
gateway=""
if "$program" status --json > /dev/null 2> error; then fail "there is a status without a gateway"; fi
python3 -c 'import json; assert "nothing answers" in json.load(open("error"))["error"]["message"]'
echo "the command line does what it says"
