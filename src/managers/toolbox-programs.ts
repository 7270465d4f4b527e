/**
 * What the service runs inside containers, as scripts of the toolbox's own busybox: no image needs a
 * shell for it. They lie in the toolbox volume, read-only, and say nothing that is not an error.
 */
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { pack } from 'tar-stream'

/** Where containers have the toolbox. */
export const TOOLBOX_FOLDER = '/.toolbox'
export const BUSYBOX = `${TOOLBOX_FOLDER}/busybox`
/** For an image that says nothing of what to run: a process that waits. */
export const IDLE_COMMAND: readonly string[] = [BUSYBOX, 'tail', '-f', '/dev/null']
/** A tmpfs of every worker: what its programs may know and no inspect shows. */
export const PRIVATE_FOLDER = '/run/worker'
/** Variables as shell assignments, in the private folder. */
export const ENVIRONMENT_FILE = 'environment'
/** What puts private files in their places, as shell commands. */
export const SETUP_FILE = 'setup'
/** Token and user name for git, in the private folder. */
export const GIT_TOKEN_FILE = 'git-token'
export const GIT_USERNAME_FILE = 'git-username'
/** Where a parked container that was given no tool says so, before it ends with `UNSTARTED_CODE`. */
export const UNSTARTED_FILE = '/output/.container-orchestrator-unstarted'
export const UNSTARTED_CODE = 125
/** Marks a command and what it starts: `worker-kill` finds them by it. */
export const EXECUTION_VARIABLE = 'EXECUTION_ID'

/**
 * Sets `program` to the path of $1, or ends with 127. Busybox's shell prefers its own applets to the
 * programs of the image, unless they are given by path.
 */
const FIND_PROGRAM = `_w_find() {
  _w_program=$1
  case $1 in */*) return ;; esac
  _w_rest=\${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}:
  while [ -n "$_w_rest" ]; do
    _w_folder=\${_w_rest%%:*}
    _w_rest=\${_w_rest#*:}
    _w_program=\${_w_folder:-.}/$1
    [ -f "$_w_program" ] && [ -x "$_w_program" ] && return
  done
  echo "$1: not found" >&2
  exit 127
}
`

/** Names of the scripts' own variables begin with _w_: none is one that a worker's or tool's environment has. */
export const OWN_VARIABLE = /^_w_/

const PROGRAMS: Readonly<Record<string, string>> = {
  /**
   * `tool-start`: first process of a parked container. Takes a hand-off from stdin (managers/hand-off.ts),
   * reading no byte beyond it, and becomes its tool. Whatever is not just as it would be for a container
   * that is started with the tool (no whole hand-off, no such program, one that the kernel does not
   * run) ends it before, and leaves `UNSTARTED_FILE`: then the tool has not run.
   */
  'tool-start': `_w_unstarted() {
  trap - EXIT
  { : >${UNSTARTED_FILE}; } 2>/dev/null
  exit ${UNSTARTED_CODE}
}
trap _w_unstarted EXIT
read -r _w_bytes _w_end || exit
_w_text=$(${BUSYBOX} dd bs="$_w_bytes" count=1 iflag=fullblock 2>/dev/null)
case $_w_text in *": $_w_end") ;; *) exit ;; esac
# What the shell itself exports.
unset SHLVL PWD OLDPWD
eval "$_w_text" 2>/dev/null
# The kernel runs programs of its own format, and scripts whose interpreter is one. $1: the file, $2: more of them may follow
_w_runs() {
  [ -f "$1" ] && [ -x "$1" ] || return
  { IFS= read -r -n 4 _w_magic <"$1"; } 2>/dev/null
  case $_w_magic in
  ?ELF) return 0 ;;
  '#!'*) [ "$2" = 1 ] || return ;;
  *) return 1 ;;
  esac
  read -r _w_interpreter <"$1"
  _w_interpreter=\${_w_interpreter#'#!'}
  while :; do
    case $_w_interpreter in ' '* | '	'*) _w_interpreter=\${_w_interpreter#?} ;; *) break ;; esac
  done
  _w_interpreter=\${_w_interpreter%%[ 	]*}
  _w_runs "$_w_interpreter" 0
}
_w_name=$1
shift
_w_program=
case $_w_name in
*/*) _w_program=$_w_name ;;
*)
  _w_rest=$PATH:
  while [ -n "$_w_rest" ]; do
    _w_folder=\${_w_rest%%:*}
    _w_rest=\${_w_rest#*:}
    _w_program=\${_w_folder:-.}/$_w_name
    [ -f "$_w_program" ] && [ -x "$_w_program" ] && break
  done
  ;;
esac
_w_runs "$_w_program" 1 || exit
if [ "$_w_stdin" = closed ]; then exec <>/dev/null; fi
exec -a "$_w_name" "$_w_program" "$@"
`,

  /**
   * `worker-start open|closed PROGRAM ARGUMENT…`: first process of a worker. Takes its private files
   * from stdin, as a tar, and becomes its command, with a stdin that never says anything or is closed.
   */
  'worker-start': `umask 022
_w_workspace=$PWD
cd ${PRIVATE_FOLDER} && ${BUSYBOX} tar -x -o -f - || exit 125
. ./${SETUP_FILE} || exit 125
. ./${ENVIRONMENT_FILE} || exit 125
cd "$_w_workspace" || exit 125
_w_stdin=$1
shift
${FIND_PROGRAM}
_w_find "$1"
shift
if [ "$_w_stdin" = closed ]; then exec "$_w_program" "$@" </dev/null; fi
# Opened for reading and writing, a FIFO neither blocks nor ends: a shell that is the command waits.
${BUSYBOX} mkfifo ${PRIVATE_FOLDER}/stdin && exec <>${PRIVATE_FOLDER}/stdin || exit 125
${BUSYBOX} rm ${PRIVATE_FOLDER}/stdin
exec "$_w_program" "$@"
`,

  /**
   * `worker-exec FOLDER NAMES shell SCRIPT` or `worker-exec FOLDER NAMES argv PROGRAM ARGUMENT…`: a
   * command beside it, in a folder, with the worker's private variables but for those in NAMES.
   */
  'worker-exec': `_w_folder=$1 _w_names=$2 _w_form=$3
shift 3
if [ -r ${PRIVATE_FOLDER}/${ENVIRONMENT_FILE} ]; then
  for _w_name in $_w_names; do eval "_w_given_$_w_name=\\$$_w_name"; done
  . ${PRIVATE_FOLDER}/${ENVIRONMENT_FILE}
  for _w_name in $_w_names; do eval "export $_w_name=\\"\\$_w_given_$_w_name\\""; done
fi
cd "$_w_folder" || exit 125
if [ "$_w_form" = shell ]; then
  [ -x /bin/sh ] && exec /bin/sh -c "$1"
  export PATH="\${PATH:-/bin}:${TOOLBOX_FOLDER}/bin"
  exec ${BUSYBOX} sh -c "$1"
fi
${FIND_PROGRAM}
_w_find "$1"
shift
exec "$_w_program" "$@"
`,

  /**
   * `worker-kill ID`: ends every process that bears the mark of a command, and all their descendants,
   * and returns once none is left; 1 where some outlast it. Above them stands an init that adopts
   * orphans, so nothing leaves the tree by forking away; all are stopped before any is killed, so
   * nothing outruns it. Only builtins of the shell: it starts no process of its own.
   */
  'worker-kill': `mark=${EXECUTION_VARIABLE}=$1
is_marked() {
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in *"$mark"*) return 0 ;; esac
  done 2>/dev/null <"/proc/$1/environ"
  return 1
}
# Sets state and parent of process $1; fails where it is gone or only waits to be reaped.
look_at() {
  state= parent=
  while read -r key value rest; do
    case $key in State:) state=$value ;; PPid:) parent=$value; break ;; esac
  done 2>/dev/null <"/proc/$1/status"
  [ -n "$parent" ] && [ "$state" != Z ] && [ "$state" != X ]
}
# Sets tree to all that are marked, and descend from one that is.
find_tree() {
  tree=' ' others=
  for entry in /proc/[0-9]*; do
    pid=\${entry#/proc/}
    look_at "$pid" || continue
    if is_marked "$pid"; then tree="$tree$pid "; else others="$others $pid:$parent"; fi
  done
  grown=yes
  while [ -n "$grown" ]; do
    grown=
    for pair in $others; do
      pid=\${pair%:*} parent=\${pair#*:}
      case $tree in *" $pid "*) continue ;; esac
      case $tree in *" $parent "*) tree="$tree$pid " grown=yes ;; esac
    done
  done
}
find_tree
stopped=
while [ "$tree" != "$stopped" ]; do
  kill -STOP $tree 2>/dev/null
  stopped=$tree
  find_tree
done
tries=0
while [ "$tree" != ' ' ]; do
  kill -KILL $tree 2>/dev/null
  tries=$((tries + 1))
  [ "$tries" -gt 2000 ] && exit 1
  find_tree
done
`,

  /**
   * `loopback-alone`: 0 in a container whose only network is its loopback, on which nobody listens, and
   * that knows it as localhost.
   */
  'loopback-alone': `loopback=
while read -r interface rest; do
  case $interface in
  lo:*) loopback=yes ;;
  *:*) exit 1 ;;
  esac
done </proc/net/dev
[ -n "$loopback" ] || exit 1
for table in /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6; do
  [ -e "$table" ] || continue
  { read -r heading && read -r socket; } <"$table" && exit 1
done
while read -r address name rest; do
  [ "$address $name" = '127.0.0.1 localhost' ] && exit 0
done </etc/hosts
exit 1
`,

  /** What git calls for a user name and a password. */
  'git-askpass': `case $1 in
Username*) file=${PRIVATE_FOLDER}/${GIT_USERNAME_FILE} ;;
*) file=${PRIVATE_FOLDER}/${GIT_TOKEN_FILE} ;;
esac
exec ${BUSYBOX} cat "$file"
`,
}

/** What a container's loopback is called, in a file that becomes its /etc/hosts. */
export const HOSTS_FILE = 'hosts'
const HOSTS = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n'

/** For shells of images that have none: found behind all that the image has. */
const APPLETS = `ash awk base64 basename cat chmod chown cmp cp cut date dd df diff dirname du echo env expr false find
grep gunzip gzip head hexdump hostname id kill ln ls md5sum mkdir mkfifo mktemp mv nc nohup od printenv printf ps pwd
readlink realpath rm rmdir sed seq setsid sh sha1sum sha256sum sleep sort split stat sync tail tar tee test touch tr
true tty uname uniq unlink vi wc wget which whoami xargs yes`.split(/\s+/)

/** The last to be unpacked: where it is, all are. */
export const LAST_PROGRAM = 'git-askpass'

/** Where containers have a program. */
export function programPath(
  name: 'tool-start' | 'worker-start' | 'worker-exec' | 'worker-kill' | 'loopback-alone' | 'git-askpass',
): string {
  return `${TOOLBOX_FOLDER}/${name}`
}

/** Changes whenever a program does, so that a volume is never filled half with the old. */
export function programsDigest(): string {
  return createHash('sha256')
    .update(JSON.stringify([PROGRAMS, APPLETS, HOSTS]))
    .digest('hex')
    .slice(0, 8)
}

/** The programs, and the file of hosts, as a tar, to be unpacked beside the busybox. */
export function packPrograms(): Readable {
  const tar = pack()
  tar.entry({ name: 'bin/', type: 'directory', mode: 0o755 })
  for (const applet of APPLETS) tar.entry({ name: `bin/${applet}`, type: 'symlink', linkname: '../busybox' })
  tar.entry({ name: HOSTS_FILE, mode: 0o644 }, HOSTS)
  for (const [name, text] of Object.entries(PROGRAMS)) {
    tar.entry({ name, mode: 0o755 }, `#!${BUSYBOX} sh\n${text}`)
  }
  tar.finalize()
  return Readable.from(tar)
}
