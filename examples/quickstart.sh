#!/usr/bin/env bash
# The whole story of one session, with curl alone: a tool, its result and logs, a run followed as it
# goes, a relic, a tool that talks to it, stats, and the call that ends it all.
#
#   npm start                    # in one terminal
#   bash examples/quickstart.sh  # in another
#
# BASE_URL     where the service is (default http://127.0.0.1:8086)
# IMAGE        of the tools: any with sh and wget (default container-orchestrator/toolbox:1)
# RELIC_IMAGE  of the relic: an HTTP server that answers 2xx to /health and to / on port 8000
#              (default: the toolbox, with a command that makes it one)
set -euo pipefail

base=${BASE_URL:-http://127.0.0.1:8086}
base=${base%/}
image=${IMAGE:-container-orchestrator/toolbox:1}
relic_image=${RELIC_IMAGE:-container-orchestrator/toolbox:1}
session="quickstart-$$-$RANDOM"

# An image that was named brings its own command.
relic_command=
if [ -z "${RELIC_IMAGE:-}" ]; then
  relic_command='"command":["sh","-c","mkdir -p /tmp/www && echo ok > /tmp/www/health && echo hello > /tmp/www/index.html && exec httpd -f -p 8000 -h /tmp/www"],'
fi

answer=

# fail WORDS…: the step that went wrong, and the last answer.
fail() {
  printf 'quickstart: FAILED: %s\n' "$*" >&2
  [ -z "$answer" ] || printf '%s\n' "$answer" >&2
  exit 1
}

# call STATUS METHOD PATH [BODY]: one request, whose answer is left in $answer; fails on another status.
call() {
  local expected=$1 method=$2 path=$3 status
  local options=(--silent --show-error --max-time 120 --request "$method" --write-out '\n%{http_code}')
  [ $# -lt 4 ] || options+=(--header 'content-type: application/json' --data "$4")
  answer=$(curl "${options[@]}" "$base$path") || fail "$method $path: no answer from $base; does the service run?"
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  [ "$status" = "$expected" ] || fail "$method $path answered $status, not $expected"
}

# field NAME: the first value of that name in $answer, without the quotes of a string.
field() {
  local pattern="\"$1\":(\"([^\"]*)\"|[^],}]*)"
  [[ $answer =~ $pattern ]] || fail "there is no field \"$1\""
  printf '%s' "${BASH_REMATCH[2]:-${BASH_REMATCH[1]}}"
}

# expect TEXT: $answer contains it.
expect() {
  [[ $answer == *"$1"* ]] || fail "expected in the answer: $1"
}

step() { printf 'quickstart: %s\n' "$*"; }

# Whatever happens, nothing of this session stays behind.
clean_up() {
  curl --silent --max-time 120 --output /dev/null --header 'content-type: application/json' \
    --data "{\"session_id\":\"$session\",\"force\":true}" "$base/containers/cleanup/session" || true
}
trap clean_up EXIT

call 200 GET /health
expect '"status":"healthy"'
step "the service is healthy; its engine is $(field name)"

# What stands in for a real extractor: it reports on stderr, and answers with JSON on stdout.
extractor=$(
  cat <<'JSON'
["sh", "-c", "echo reading >&2; printf '{\"file\":\"%s\",\"pages\":%d}' \"$PARAM_FILE\" \"$PARAM_PAGES\""]
JSON
)
call 200 POST /containers/tool/execute "{
  \"tool_name\": \"pdf_extractor\",
  \"session_id\": \"$session\",
  \"image\": \"$image\",
  \"command\": $extractor,
  \"parameters\": {\"file\": \"document.pdf\", \"pages\": 3},
  \"resource_limits\": {\"memory_mb\": 512, \"cpu_limit\": 1.0, \"timeout_seconds\": 300}
}"
expect '"status":"completed"'
expect '"exit_code":0'
expect '"result":{"file":"document.pdf","pages":3}'
run=$(field execution_id)
step "a tool ran with parameters and gave JSON: $run"

call 200 GET "/containers/tool/$run"
expect "\"execution_id\":\"$run\""
expect '"result_source":"stdout"'
step 'its run can be fetched after its container is gone'

call 200 GET "/containers/tool/$run/logs?stream=stderr"
[ "${answer%$'\n'}" = reading ] || fail 'the log should be the one line that the tool wrote to stderr'
step 'so can its logs, one stream at a time'

call 202 POST /containers/tool/execute "{
  \"tool_name\": \"counter\",
  \"session_id\": \"$session\",
  \"image\": \"$image\",
  \"command\": [\"sh\", \"-c\", \"for i in 1 2 3; do echo line \$i; sleep 1; done\"],
  \"wait\": false
}"
run=$(field execution_id)
step "a run was accepted without waiting for it: $run"

call 200 GET "/containers/tool/$run/logs?follow=true"
expect '{"text":"line 1\n"'
expect '{"text":"line 3\n"'
expect 'event: end'
[[ ${answer##*event: end} == *'"status":"completed"'* ]] || fail 'the last event should be the completed run'
step 'its output was followed as Server-Sent Events up to the final "end"'

call 201 POST /containers/relic/start "{
  \"relic_name\": \"research_cache\",
  \"session_id\": \"$session\",
  \"image\": \"$relic_image\",
  $relic_command
  \"create_private_network\": true,
  \"health_check_endpoint\": \"/health\"
}"
expect '"status":"healthy"'
relic=$(field relic_id)
internal_url=$(field internal_url)
step "a relic is healthy: $relic at $internal_url"

call 200 GET "/containers/relic/$relic"
expect "\"relic_id\":\"$relic\""
step 'its information can be read'

call 200 GET "/containers/relic?session_id=$session"
expect "\"relic_id\":\"$relic\""
expect '"next_cursor":null'
step 'it is in the list of its session'

call 200 POST /containers/tool/execute "{
  \"tool_name\": \"fetch\",
  \"session_id\": \"$session\",
  \"image\": \"$image\",
  \"network_mode\": \"session\",
  \"command\": [\"wget\", \"-q\", \"-O\", \"-\", \"$internal_url/\"]
}"
expect '"status":"completed"'
[ -n "${RELIC_IMAGE:-}" ] || expect '"stdout":"hello\n"'
step 'a tool on the network of the session fetched from the relic'

# On an engine that is slow to give a first sample, the first answer has null where it would be.
for _ in 1 2 3 4 5; do
  call 200 GET "/containers/stats?session_id=$session&kind=relic"
  used=$(field memory_used_mb)
  [ "$used" = null ] || break
  sleep 1
done
expect "\"id\":\"$relic\""
expect '"containers":1,"running":1'
[ "$used" != null ] || fail 'stats should tell the memory of a relic that runs'
step "stats tell what the relic uses: $used MB"

call 200 POST "/containers/relic/$relic/stop" '{"timeout_seconds":5}'
expect '"status":"stopped"'
step 'the relic is stopped'

call 200 POST /containers/cleanup/session "{\"session_id\":\"$session\"}"
[ "$(field containers_removed)" -ge 1 ] || fail 'the container of the relic should have been removed'
expect '"networks_removed":1'
expect '"errors":[]'
step 'the session is cleaned up: its container and its network are gone'

call 200 POST /containers/cleanup/session "{\"session_id\":\"$session\"}"
expect '"containers_removed":0,"networks_removed":0'
trap - EXIT
step 'repeating that does nothing'

echo 'quickstart: all steps passed'
