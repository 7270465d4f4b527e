#!/usr/bin/env bash
# Runs a command against Docker 26.1 (API 1.45), which need not be installed here:
#
#   scripts/engines/docker-26.sh COMMAND…
#   scripts/engines/docker-26.sh vitest run test/contract/docker.test.ts
#
# The daemon is that of Debian 13 (trixie), from the mirror this machine's apt uses: downloaded and
# unpacked once under .cache/docker-26/, never installed. It runs in namespaces of its own (mounts,
# processes, network, host name), so that neither this machine's engine nor its firewall notices. The
# images of the tests are made on it before COMMAND starts, and kept for the next time.
#
# COMMAND gets DOCKER_HOST, and shares the daemon's network: it reaches containers and published ports,
# and nothing outside. Its exit status is that of this script. With COMMAND everything ends: the
# daemon, its containers and their cgroups. Takes Linux, root, and Debian's apt; exit status 1 and a
# sentence where it cannot.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
readonly checkout
readonly home=$checkout/.cache/docker-26
readonly root=$home/root
readonly data=$home/data
readonly run=$home/run
readonly log=$home/dockerd.log
readonly socket=$run/docker.sock
# The same at each run of a checkout: the next one removes what a killed one could not.
cgroup=container-orchestrator-docker-26-$(cksum <<<"$checkout" | cut -d ' ' -f 1)
readonly cgroup

readonly RELEASE=trixie
# Debian's own keys, of every release.
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
readonly PACKAGES=(base-files bash tini docker.io docker-cli iptables iproute2 mount util-linux coreutils ca-certificates)
readonly START_SECONDS=30
readonly STOP_SECONDS=15

# The longest path that a socket may have, by the kernel's sockaddr_un.
readonly LONGEST_SOCKET=107

unshare_pid=
init_pid=

say() { printf 'docker-26: %s\n' "$*" >&2; }

# The first argument says what is wrong, the others, a line each, what to do about it.
fail() {
  say "$1"
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}

check_machine() {
  local tool
  [ "$(uname -s)" = Linux ] || fail 'this takes Linux'
  [ "$(id -u)" -eq 0 ] || fail 'this takes root: it mounts, and starts a daemon in namespaces of its own'
  for tool in apt-get dpkg-deb unshare nsenter setpriv flock pivot_root ip; do
    command -v "$tool" >/dev/null || fail "$tool is missing" 'This takes Debian with util-linux and iproute2.'
  done
  [ "$(. /etc/os-release && echo "$ID")" = debian ] ||
    fail "this is not Debian, whose mirrors carry $RELEASE" 'Run the tests with DOCKER_HOST against an engine of your own.'
  [ -x "$checkout/node_modules/.bin/node" ] || fail 'the npm packages are missing' 'Run: bash scripts/setup.sh test'
  [ "${#socket}" -le "$LONGEST_SOCKET" ] || fail "the path of the socket is too long: $socket" 'Use a checkout with a shorter path.'
}

# --- Docker, unpacked -------------------------------------------------------------------------------

# This machine's sources of Debian, in the words of sources.list, for $RELEASE instead of its own release.
sources() {
  local own
  own=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # apt itself knows every form that its sources may have.
  apt-get indextargets --format '$(RELEASE) $(SITE) $(COMPONENT)' 'Identifier: Packages' |
    while read -r suite site component; do
      [ "$component" = main ] && [ "${suite%%-*}" = "$own" ] || continue
      case ${suite#"$own"} in
        '' | -updates | -security) ;;
        *) continue ;;
      esac
      echo "deb [signed-by=$KEYRING] $site $RELEASE${suite#"$own"} main"
    done | sort -u
}

unpack_docker() {
  [ -d "$root" ] && return
  local apt=$home/apt partial=$home/root.partial package options
  say "fetching Docker of Debian $RELEASE with apt (about 90 MB, once)"
  rm -rf "$apt" "$partial"
  mkdir -p "$apt"/{lists,archives}/partial "$partial"

  sources >"$apt/sources.list"
  # apt tells only of sources whose lists it has.
  [ -s "$apt/sources.list" ] || { apt-get update >"$apt/log" 2>&1 && sources >"$apt/sources.list"; }
  [ -s "$apt/sources.list" ] || fail 'apt has no source of Debian that could be asked for another release'

  : >"$apt/status"
  options=(
    -qq -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
    -o "Dir::State::Lists=$apt/lists" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt"
    -o APT::Sandbox::User=root
  )
  # With an empty status nothing counts as installed, so that all that Docker needs comes along.
  { apt-get "${options[@]}" update &&
    apt-get "${options[@]}" -y --no-install-recommends --download-only install "${PACKAGES[@]}"; } \
    >"$apt/log" 2>&1 </dev/null || { tail -n 15 "$apt/log" >&2 && fail "apt cannot get Docker of $RELEASE" 'Its words are above.'; }

  # First the package whose links (/bin, /lib, …) the others' files go through.
  for package in "$apt"/archives/base-files_*.deb "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$partial"; done
  # What the packages' own scripts would have done.
  ln -sf iptables-nft "$partial/usr/sbin/iptables"
  ln -sf ip6tables-nft "$partial/usr/sbin/ip6tables"
  mkdir -p "$partial"/{dev,proc,sys,run,tmp,etc,old,var/lib/docker} "$partial$run"
  ln -sfn /run "$partial/var/run"
  echo '127.0.0.1 localhost' >"$partial/etc/hosts"
  : >"$partial/etc/resolv.conf"

  rm -rf "$apt"
  mv "$partial" "$root"
}

# --- The daemon -------------------------------------------------------------------------------------

# In the new namespaces, as their first process: makes the unpacked Docker the root, and becomes dockerd
# under tini, which reaps what dockerd's children leave.
become_daemon() {
  set -euo pipefail
  ip link set lo up
  # pivot_root and not chroot: under chroot, containers see this root and not their image.
  mount --bind "$ROOT" "$ROOT"
  mount -t proc proc "$ROOT/proc"
  mount -t sysfs sysfs "$ROOT/sys"
  mount --rbind /sys/fs/cgroup "$ROOT/sys/fs/cgroup"
  mount --rbind /dev "$ROOT/dev"
  mount -t tmpfs tmpfs "$ROOT/run"
  mount -t tmpfs tmpfs "$ROOT/tmp"
  mount --bind "$DATA" "$ROOT/var/lib/docker"
  # At the path that it has outside, so that a container can be given the socket by that path.
  mkdir -p "$ROOT$RUN"
  mount --bind "$RUN" "$ROOT$RUN"
  cd "$ROOT"
  pivot_root . old
  cd /
  export PATH=/usr/sbin:/usr/bin
  hash -r
  umount -l /old
  exec tini -- dockerd --host "unix://$RUN/docker.sock" --data-root /var/lib/docker --exec-root /run/docker \
    --pidfile /run/docker.pid --cgroup-parent "/$CGROUP" --shutdown-timeout 5 --log-level warn
}

start_daemon() {
  local deadline=$((SECONDS + START_SECONDS))
  rm -rf "$run"
  mkdir -p "$data" "$run" "$root$run"
  export -f become_daemon
  # setpriv and --kill-child: where this script is killed, the namespace ends, with everything in it.
  # The daemon must not hold the lock, which is descriptor 9.
  ROOT=$root DATA=$data RUN=$run CGROUP=$cgroup \
    setpriv --pdeathsig KILL unshare --mount --uts --net --pid --fork --kill-child bash -c become_daemon \
    >"$log" 2>&1 </dev/null 9>&- &
  unshare_pid=$!
  until init_pid=$(cat "/proc/$unshare_pid/task/$unshare_pid/children" 2>/dev/null) && init_pid=${init_pid% } &&
    [ -n "$init_pid" ] && [ -S "$socket" ] && docker_cli version >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$unshare_pid" 2>/dev/null; then
      tail -n 15 "$log" >&2
      fail "the daemon did not answer within $START_SECONDS s" "Its last words are above, the others in $log."
    fi
    sleep 0.1
  done
  say "Docker $(docker_cli version --format '{{.Server.Version}}, API {{.Server.APIVersion}}')"
}

# The unpacked docker command, in the daemon's namespaces.
docker_cli() {
  nsenter --target "$init_pid" --mount --uts --net --pid env -i PATH=/usr/sbin:/usr/bin "DOCKER_HOST=unix://$socket" docker "$@" </dev/null
}

# Leaves nothing on the daemon but images that have a name.
tidy() {
  local containers
  containers=$(docker_cli ps --all --quiet --no-trunc) || return
  # shellcheck disable=SC2086 # ids: a word each
  [ -z "$containers" ] || docker_cli rm --force --volumes $containers
  docker_cli network prune --force
  docker_cli volume prune --all --force
  docker_cli image prune --force
}

# shellcheck disable=SC2317 # called by the trap
end_daemon() {
  local status=$? deadline folder
  trap '' INT TERM HUP
  if [ -n "$init_pid" ] && kill -0 "$init_pid" 2>/dev/null; then
    tidy >/dev/null 2>&1 || true
    kill -TERM "$init_pid" 2>/dev/null || true
    deadline=$((SECONDS + STOP_SECONDS))
    while kill -0 "$init_pid" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
    # With its first process the namespace ends: dockerd, containerd, shims and containers.
    kill -KILL "$init_pid" 2>/dev/null || true
  fi
  if [ -n "$unshare_pid" ]; then
    kill -KILL "$unshare_pid" 2>/dev/null || true
    wait "$unshare_pid" 2>/dev/null || true
  fi
  # Empty once their processes are gone; each controller has a tree of its own in version 1.
  for folder in /sys/fs/cgroup/"$cgroup" /sys/fs/cgroup/*/"$cgroup"; do
    [ ! -d "$folder" ] || find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || say "could not remove $folder"
  done
  rm -rf "$run"
  exit "$status"
}

# ----------------------------------------------------------------------------------------------------

if [ $# -eq 0 ]; then
  echo 'usage: scripts/engines/docker-26.sh COMMAND…' >&2
  exit 2
fi
export PATH="$checkout/node_modules/.bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
check_machine

# One at a time in a checkout: they share the data.
mkdir -p "$home"
exec 9>>"$home/lock"
flock -n 9 || { say 'waiting for another run in this checkout' && flock 9; }

unpack_docker
trap end_daemon EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
start_daemon
tidy >/dev/null

export DOCKER_HOST=unix://$socket
# Outside the daemon's network: what makes an image may have to fetch something first.
(cd "$checkout" && node scripts/images.ts test >&2) 9>&- || fail 'the images of the tests cannot be made' "Its words are above, the daemon's in $log."

status=0
setpriv --pdeathsig TERM nsenter --net="/proc/$init_pid/ns/net" -- "$@" 9>&- || status=$?
exit "$status"
