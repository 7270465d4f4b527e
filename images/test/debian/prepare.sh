#!/usr/bin/env bash
# Puts rootfs.tar beside the Dockerfile in folder $1: this machine's release of Debian (or Ubuntu), by
# debootstrap. It is kept in CACHE_DIR by the digest of this script, so that another engine, or one
# that has lost its images, gets it in seconds.
set -euo pipefail
context=$1

readonly PACKAGES=nginx-light,redis-server,python3-minimal

# What an image has no use for: package caches and lists, documents, logs.
readonly SUPERFLUOUS=(
  var/cache/apt/archives var/cache/debconf var/lib/apt/lists var/log
  usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian
)

fail() {
  printf 'setup: the Debian image for the tests cannot be made: %s\n' "$1" >&2
  exit 1
}

# The mirror of the release that apt is configured with: from apt itself, which knows every form of
# its sources.
mirror() {
  apt-get indextargets --format '$(SITE) $(CODENAME) $(SUITE)' 'Identifier: Packages' "Codename: $1" 2>/dev/null |
    head -n 1 | cut -d ' ' -f 1
}

install_debootstrap() {
  command -v debootstrap >/dev/null && return
  echo 'setup: installing debootstrap with apt-get'
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap; } \
    >"$CACHE_DIR/debootstrap.log" 2>&1 </dev/null ||
    fail "apt-get could not install debootstrap; its words are in $CACHE_DIR/debootstrap.log"
}

make_rootfs() {
  command -v apt-get >/dev/null || fail 'it takes Debian or Ubuntu, whose debootstrap makes it'
  [ "$(id -u)" -eq 0 ] || fail 'debootstrap takes root; run npm test as root once, it is kept'
  install_debootstrap

  local release url components=main
  release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  [ "$(. /etc/os-release && echo "$ID")" != ubuntu ] || components=main,universe
  url=$(mirror "$release")
  # apt tells only of sources whose lists it has.
  [ -n "$url" ] || { apt-get update >/dev/null 2>&1 && url=$(mirror "$release"); }
  [ -n "$url" ] || fail "apt has no source for $release"

  echo "setup: debootstrap makes a root filesystem of $release with $PACKAGES (a minute or two, once)"
  # What debootstrap mounts ends with its own mount namespace, however it ends.
  unshare --mount debootstrap --variant=minbase --components="$components" --include="$PACKAGES" "$release" "$context/root" "$url" \
    >"$CACHE_DIR/debootstrap.log" 2>&1 </dev/null ||
    fail "debootstrap failed; its words are in $CACHE_DIR/debootstrap.log"

  local folder
  for folder in "${SUPERFLUOUS[@]}"; do
    # The folders stay, and those of a service's log keep their owner.
    [ ! -d "$context/root/$folder" ] || find "$context/root/$folder" ! -type d -delete
  done
  rm -f "$CACHE_DIR"/debian-*.tar
  tar -C "$context/root" --numeric-owner -cf "$1.partial" .
  mv "$1.partial" "$1"
  rm -rf "$context/root"
}

kept=$CACHE_DIR/debian-$(sha256sum "$0" | cut -c 1-16).tar
[ -f "$kept" ] || make_rootfs "$kept"
cp "$kept" "$context/rootfs.tar"
