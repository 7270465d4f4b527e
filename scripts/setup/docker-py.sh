# shellcheck shell=bash
# docker-py from Debian's packages, a rival of the bench, which goes without it where it cannot be had.

ensure_docker_py() {
  /usr/bin/python3 -c 'import docker' 2>/dev/null && return
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    say "python3-docker is missing, and this is not root on Debian or Ubuntu: the bench will say 'rival absent'"
    return
  fi
  say 'installing python3-docker with apt-get'
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update && quietly apt-get install -y --no-install-recommends python3-docker ||
    say "apt-get could not install python3-docker: the bench will say 'rival absent'"
}
