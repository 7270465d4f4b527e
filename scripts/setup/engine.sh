# shellcheck shell=bash
# A container engine that answers: the one that is there, else Debian's Docker, installed and started.

readonly ENGINE_LOG=/var/log/dockerd-container-orchestrator.log
readonly ENGINE_PID=/var/run/docker.pid
readonly ENGINE_WAIT_SECONDS=60

ensure_engine() {
  local reason status=0
  reason=$(node scripts/engine.ts) || status=$?
  case $status in
    0) return ;;
    2) fail "no engine answers at $reason" 'DOCKER_HOST says where it is: start it there, or unset DOCKER_HOST.' ;;
  esac

  [ "$(id -u)" -eq 0 ] || case $reason in
    *EACCES*)
      fail "this user may not use the engine at $reason" \
        "Join the group of the socket (sudo usermod -aG docker $(id -un), then log in again), or run this as root."
      ;;
    *)
      fail "no container engine answers at $reason" \
        'Start one (Docker 20.10 or later, or Podman: podman system service), say where it is with DOCKER_HOST,' \
        'or run this as root on Debian or Ubuntu, where set-up installs and starts Docker itself.'
      ;;
  esac

  command -v dockerd >/dev/null || install_engine "$reason"
  start_engine
}

install_engine() {
  command -v apt-get >/dev/null || fail "no container engine answers at $1, and this is not Debian or Ubuntu" \
    'Install and start Docker 20.10 or later, or say with DOCKER_HOST where an engine is.'
  say 'installing Docker (docker.io and iptables) with apt-get'
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update || fail 'apt-get update failed' "Its words are above; is the package mirror reachable?"
  quietly apt-get install -y --no-install-recommends docker.io iptables ||
    fail 'apt-get could not install docker.io and iptables' 'Its words are above.'
}

start_engine() {
  # The package's own start-up scripts, or another process, may have started it.
  if ! engine_is_running; then
    if [ -d /run/systemd/system ]; then
      say 'starting Docker with systemctl'
      quietly systemctl start docker || fail 'systemctl could not start Docker' 'See: journalctl -u docker'
    else
      say "starting dockerd in the background; its log is $ENGINE_LOG"
      # dockerd refuses to start over a pid file, even one that a dead machine left behind.
      rm -f "$ENGINE_PID"
      # In a session of its own it outlives this terminal; it must not hold the lock of set-up.
      setsid nohup dockerd --log-level warn >>"$ENGINE_LOG" 2>&1 </dev/null 9>&- &
      disown
    fi
  fi
  wait_for_engine
}

# True where the pid file names a process that is a dockerd.
engine_is_running() {
  local pid
  pid=$(cat "$ENGINE_PID" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}

wait_for_engine() {
  local reason deadline=$((SECONDS + ENGINE_WAIT_SECONDS))
  until reason=$(node scripts/engine.ts); do
    if [ "$SECONDS" -ge "$deadline" ]; then
      [ ! -f "$ENGINE_LOG" ] || tail -n 15 "$ENGINE_LOG" >&2
      fail "the engine did not answer within $ENGINE_WAIT_SECONDS s: $reason" "Its last words are above, where it left any."
    fi
    sleep 0.2
  done
}
