#!/bin/sh
# Makes the ACL file of users.acl and of the passwords in the environment, then becomes the server.
# GHUB_ACL_FILE: where to write it; a folder in memory, so that no disk ever holds it.
set -eu
here=$(dirname "$0")
: "${BROKER_HUB_PASSWORD:?}" "${BROKER_PROVIDER_PASSWORD:?}"
hash() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

umask 077
sed -e '/^#/d' -e '/^$/d' -e ':join' -e '/\\$/{' -e 'N' -e 's/ *\\\n */ /' -e 'b join' -e '}' \
  -e "s/HUB_PASSWORD_SHA256/$(hash "$BROKER_HUB_PASSWORD")/" \
  -e "s/PROVIDER_PASSWORD_SHA256/$(hash "$BROKER_PROVIDER_PASSWORD")/" \
  "$here/users.acl" > "${GHUB_ACL_FILE:=/run/ghub/users.acl}"
unset BROKER_HUB_PASSWORD BROKER_PROVIDER_PASSWORD
exec "${VALKEY_SERVER:-valkey-server}" "$here/valkey.conf" --aclfile "$GHUB_ACL_FILE" "$@"
