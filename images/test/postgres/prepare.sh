#!/usr/bin/env bash
# Puts postgres's packages, and those that it needs and the Debian image lacks, into `packages` beside the
# Dockerfile in folder $1: from the mirror that this machine's apt uses, kept in CACHE_DIR.
set -euo pipefail
context=$1

fail() {
  printf 'setup: the postgres image for the tests cannot be made: %s\n' "$1" >&2
  exit 1
}

# What the Debian image has installed, as dpkg records it.
installed() {
  mkdir "$context/debian"
  bash images/test/debian/prepare.sh "$context/debian"
  tar -xOf "$context/debian/rootfs.tar" ./var/lib/dpkg/status >"$context/status"
  rm -r "$context/debian"
}

# apt resolves against the image's packages, and neither reads nor changes what this machine has.
download() {
  mkdir -p "$context/packages/partial"
  apt-get --yes --download-only --no-install-recommends \
    --option Dir::State::status="$PWD/$context/status" \
    --option Dir::State::extended_states="$PWD/$context/extended_states" \
    --option Dir::Cache::archives="$PWD/$context/packages" \
    --option Dir::Cache::pkgcache= --option Dir::Cache::srcpkgcache= \
    --option Debug::NoLocking=true --option APT::Sandbox::User=root \
    install postgresql
}

fetch() {
  command -v apt-get >/dev/null || fail 'it takes Debian or Ubuntu, whose apt has the packages'
  echo 'setup: fetching postgres for the tests'
  { download || { apt-get update && download; }; } >"$CACHE_DIR/postgres-packages.log" 2>&1 </dev/null ||
    fail "apt-get could not download postgres; its words are in $CACHE_DIR/postgres-packages.log"
  rm -rf "$context/packages/partial" "$context/packages/lock" "$CACHE_DIR"/postgres-packages-*.tar
  tar -C "$context" -cf "$1.partial" packages
  mv "$1.partial" "$1"
}

installed
kept=$CACHE_DIR/postgres-packages-$(cat "$0" "$context/status" | sha256sum | cut -c 1-16).tar
if [ -f "$kept" ]; then
  tar -C "$context" -xf "$kept"
else
  fetch "$kept"
fi
rm -f "$context/status" "$context/extended_states"
