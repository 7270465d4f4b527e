#!/usr/bin/env bash
# The life of one worker, with curl alone: started, commands and files in and out, stopped and still
# readable, started again with what it had, deleted.
#
#   npm start                # in one terminal
#   bash examples/worker.sh  # in another
#
# BASE_URL  where the service is (default http://127.0.0.1:8086)
# IMAGE     of the worker: any with sh (default container-orchestrator/toolbox:1)
set -euo pipefail

base=${BASE_URL:-http://127.0.0.1:8086}
base=${base%/}
image=${IMAGE:-container-orchestrator/toolbox:1}
id="example-$$-$RANDOM"
worker="/containers/worker/$id"
answer=

# fail WORDS…: the step that went wrong, and the last answer.
fail() {
  printf 'worker: FAILED: %s\n' "$*" >&2
  [ -z "$answer" ] || printf '%s\n' "$answer" >&2
  exit 1
}

# call STATUS METHOD PATH [TYPE BODY]: one request, whose answer is left in $answer; fails on another status.
call() {
  local expected=$1 method=$2 path=$3 status
  local options=(--silent --show-error --max-time 120 --request "$method" --write-out '\n%{http_code}')
  [ $# -lt 5 ] || options+=(--header "content-type: $4" --data-binary "$5")
  answer=$(curl "${options[@]}" "$base$path") || fail "$method $path: no answer from $base; does the service run?"
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  [ "$status" = "$expected" ] || fail "$method $path answered $status, not $expected"
}

# expect TEXT: $answer contains it.
expect() { [[ $answer == *"$1"* ]] || fail "expected in the answer: $1"; }

step() { printf 'worker: %s\n' "$*"; }

# Whatever happens, the worker does not stay behind.
trap 'curl --silent --max-time 120 --output /dev/null --request DELETE "$base$worker" || true' EXIT

call 201 POST /containers/worker/start application/json \
  "{\"worker_id\":\"$id\",\"task_id\":\"example\",\"image\":\"$image\",\"memory_limit\":\"256m\",\"cpu_limit\":1}"
expect '"status":"running"'
step "$id is ready"

# shellcheck disable=SC2016 # for the worker's shell
call 200 POST "$worker/exec" application/json '{"command":"echo \"$TASK_ID in $PWD\" > note.txt; cat note.txt; exit 3"}'
expect '"stdout":"example in /workspace\n"'
expect '"exit_code":3'
step 'a command ran in a shell, and its exit code came back'

call 200 POST "$worker/exec" application/json '{"command":["sleep","600"],"timeout_seconds":0.5}'
expect '"timed_out":true'
step 'another was ended at its timeout'

call 201 PUT "$worker/files/src/hello.txt" application/octet-stream 'hello, worker'
call 200 GET "$worker/files/src/hello.txt"
[ "$answer" = 'hello, worker' ] || fail 'the file should be what was written'
step 'a file was written and read'

call 200 POST "$worker/stop" application/json '{"timeout_seconds":5}'
expect '"status":"stopped"'
call 200 GET "$worker/files/note.txt"
expect 'example in /workspace'
step 'it is stopped, and its files can still be read'

call 200 POST "$worker/ensure" application/json "{\"image\":\"$image\"}"
expect '"status":"running"'
call 200 POST "$worker/exec" application/json '{"command":["cat","src/hello.txt"]}'
expect '"stdout":"hello, worker"'
step 'it runs again, with its workspace'

call 204 DELETE "$worker"
call 404 GET "$worker"
trap - EXIT
step 'it is deleted'

echo 'worker: all steps passed'
