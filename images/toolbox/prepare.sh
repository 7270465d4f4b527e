#!/usr/bin/env bash
# Puts a static busybox of the engine's architecture beside the Dockerfile in folder $1: this
# machine's own, else that of Debian's package (unpacked, not installed). Where there is neither, the
# image is made from the official one.
set -euo pipefail
context=$1

machine_arch() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) uname -m ;;
  esac
}

# glibc's ldd says "not a dynamic executable", musl's "Not a valid dynamic program".
is_static() { [ -x "$1" ] && ldd "$1" 2>&1 | grep -qi 'not a '; }

from_machine() {
  local path
  for path in /bin/busybox /usr/bin/busybox; do
    if is_static "$path"; then
      cp "$path" "$context/busybox"
      return
    fi
  done
  return 1
}

from_package() {
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  local folder
  folder=$(mktemp -d)
  if (cd "$folder" && { apt-get download busybox-static || { apt-get update && apt-get download busybox-static; }; }) \
    >"$folder/log" 2>&1 && dpkg-deb -x "$folder"/busybox-static_*.deb "$folder/root"; then
    cp "$folder/root/bin/busybox" "$context/busybox" 2>/dev/null || cp "$folder/root/usr/bin/busybox" "$context/busybox"
  fi
  rm -rf "$folder"
  [ -f "$context/busybox" ]
}

if [ "$(uname -s)" = Linux ] && [ "$(machine_arch)" = "$ENGINE_ARCH" ] && { from_machine || from_package; }; then
  chmod 755 "$context/busybox"
else
  echo 'setup: no static busybox for the engine here; the toolbox is made from the official image busybox:musl'
  mv "$context/pulled.Dockerfile" "$context/Dockerfile"
fi
