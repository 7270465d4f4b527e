#!/usr/bin/env bash
# Puts squid and the libraries that it needs into `root` beside the Dockerfile in folder $1: packages of
# this machine's Debian or Ubuntu, unpacked and not installed, so it takes no root. They are fetched anew
# each time, for the newest that the mirror has.
set -euo pipefail
context=$1

fail() {
  printf 'setup: the egress image cannot be made: %s\n' "$1" >&2
  exit 1
}

# apt resolves for a machine that has nothing, and neither reads nor changes what this one has.
download() {
  mkdir -p "$context/packages/partial"
  : >"$context/status"
  apt-get --yes --download-only --no-install-recommends \
    --option Dir::State::status="$PWD/$context/status" \
    --option Dir::State::extended_states="$PWD/$context/extended_states" \
    --option Dir::Cache::archives="$PWD/$context/packages" \
    --option Dir::Cache::pkgcache= --option Dir::Cache::srcpkgcache= \
    --option Debug::NoLocking=true --option APT::Sandbox::User="$(id -un)" \
    install squid
}

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail 'it takes Debian or Ubuntu, whose apt has squid'
[ "$(dpkg --print-architecture)" = "$ENGINE_ARCH" ] || fail "this machine's packages are not for the engine's $ENGINE_ARCH"
echo 'setup: fetching squid for the egress image'
{ download || { apt-get update && download; }; } >"$CACHE_DIR/egress-packages.log" 2>&1 </dev/null ||
  fail "apt-get could not download squid; its words are in $CACHE_DIR/egress-packages.log"

mkdir "$context/root"
for package in "$context"/packages/*.deb; do
  # What only their installation or their maintenance runs.
  case ${package##*/} in
    perl* | libperl* | libdbi-perl* | dpkg_* | passwd_* | adduser_* | tar_* | debconf_* | cron* | logrotate_*) continue ;;
  esac
  dpkg-deb -x "$package" "$context/root"
done
rm -rf "$context/packages" "$context/status" "$context/extended_states" \
  "$context"/root/usr/share/{doc,man,locale,lintian} "$context"/root/usr/lib/squid/*_*
# A folder is what it was unpacked as, and squid reads its own.
chmod -R u+rwX,go+rX "$context/root"
printf 'root:x:0:0::/:/none\nproxy:x:13:13::/:/none\nnobody:x:65534:65534::/:/none\n' >"$context/root/etc/passwd"
printf 'root:x:0:\nproxy:x:13:\nnogroup:x:65534:\n' >"$context/root/etc/group"
rm -f "$context/root/etc/squid/squid.conf"
