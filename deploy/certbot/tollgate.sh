#!/bin/sh
# /etc/letsencrypt/renewal-hooks/deploy/tollgate.sh: hands a renewed certificate to the gateway, which takes it up within
# 30 s by itself; the reload only makes it sooner. Certbot sets RENEWED_LINEAGE, and runs this for every certificate that
# it renews, also those of other services: the first one is the gateway's, and is remembered in the file `lineage`. Whoever
# chooses another writes its directory there. Where a certificate is in place and no such file yet, the first one is that
# with the same names.
set -eu
target="${TOLLGATE_TLS_DIR:-/etc/tollgate/tls}"
install -d -m 0750 "$target"
if [ -e "$target/lineage" ] && [ "$(cat "$target/lineage")" != "$RENEWED_LINEAGE" ]; then
  echo "tollgate: $RENEWED_LINEAGE is not the gateway's certificate ($target/lineage says which one is); nothing was changed" >&2
  exit 0
fi
names_in() {
  openssl x509 -noout -ext subjectAltName -in "$1" 2>/dev/null | grep -E 'DNS:|IP Address:' || echo "unknown: $1"
}
if [ ! -e "$target/lineage" ] && [ -e "$target/fullchain.pem" ] &&
  [ "$(names_in "$target/fullchain.pem")" != "$(names_in "$RENEWED_LINEAGE/fullchain.pem")" ]; then
  # No failure: certbot would name it each time that it renews another service's.
  echo "tollgate: $RENEWED_LINEAGE/fullchain.pem is not for the names of $target/fullchain.pem, as far as openssl can tell;" \
    "nothing was changed. If it is the gateway's certificate: echo '$RENEWED_LINEAGE' > '$target/lineage', and then" \
    "RENEWED_LINEAGE='$RENEWED_LINEAGE' $0" >&2
  exit 0
fi
# The key before the certificate; each is whole from the moment it has its name.
install -m 0640 "$RENEWED_LINEAGE/privkey.pem" "$target/privkey.pem.new"
install -m 0644 "$RENEWED_LINEAGE/fullchain.pem" "$target/fullchain.pem.new"
if [ "$(id -u)" = 0 ]; then
  chgrp tollgate "$target" "$target/privkey.pem.new"
fi
mv "$target/privkey.pem.new" "$target/privkey.pem"
mv "$target/fullchain.pem.new" "$target/fullchain.pem"
printf '%s\n' "$RENEWED_LINEAGE" > "$target/lineage"
if command -v systemctl >/dev/null && systemctl --quiet is-active tollgate.service 2>/dev/null; then
  systemctl reload tollgate.service
fi
