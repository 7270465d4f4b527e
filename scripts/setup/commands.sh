# shellcheck shell=bash
# Commands that the tests run, from Debian's packages, installed and not started: an image registry on
# 127.0.0.1 to pull from, another machine beside the engine, the binary of the toolbox outside of one.

ensure_test_commands() {
  ensure_command docker-registry docker-registry 'the tests that pull'
  ensure_command ip iproute2 'the tests of what workers reach'
  ensure_command busybox busybox-static 'the tests of the programs of the toolbox'
}

# ensure_command COMMAND PACKAGE WHO: WHO needs COMMAND, which is in PACKAGE.
ensure_command() {
  command -v "$1" >/dev/null && return
  command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] || fail "$3 need the command $1" \
    "Install it (Debian and Ubuntu have it in the package $2), or run this as root there."
  say "installing $2 with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update || fail 'apt-get update failed' 'Its words are above; is the package mirror reachable?'
  quietly apt-get install -y --no-install-recommends "$2" ||
    fail "apt-get could not install $2" 'Its words are above.'
}
