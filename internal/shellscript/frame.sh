# What follows is the same in every script.

logs=${1:-logs}
mkdir -p "$logs"
logs=$(cd "$logs" && pwd)
ids=() pids=() signals=() graces=() codes=()
stopping=no

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*"; }

fail() {
  say "$*" >&2
  exit 1
}

# start ID SIGNAL GRACE FUNCTION starts a component in a process group of its own,
# so that what it starts can be stopped with it.
start() {
  say "$1: starting, its output goes to $logs/$1.log"
  set -m
  "$4" >>"$logs/$1.log" 2>&1 </dev/null &
  set +m
  ids+=("$1") pids+=("$!") signals+=("$2") graces+=("$3") codes+=("")
}

# look notes who has ended. Nobody tells a shell, so it has to look.
look() {
  local i code
  for ((i = 0; i < ${#ids[@]}; i++)); do
    if [ -n "${codes[i]}" ] || kill -0 "${pids[i]}" 2>/dev/null; then
      continue
    fi
    code=0
    wait "${pids[i]}" 2>/dev/null || code=$?
    kill -KILL -- "-${pids[i]}" 2>/dev/null || true # what it has left behind
    codes[i]=$code
    [ "$stopping" = no ] || continue
    say "${ids[i]}: exited with code $code"
    if [ "$code" -ne 0 ] && [ "$on_failure" = stop ]; then
      tail -n 10 "$logs/${ids[i]}.log" >&2
      fail "${ids[i]} has failed; all that it printed is in $logs/${ids[i]}.log"
    fi
  done
}

# code_of ID prints the code a component has exited with, or nothing.
code_of() {
  local i
  for ((i = 0; i < ${#ids[@]}; i++)); do
    if [ "${ids[i]}" = "$1" ]; then
      printf '%s' "${codes[i]}"
    fi
  done
}

# until_healthy ID SECONDS QUESTION... waits until the question is answered well, or
# the component has completed.
until_healthy() {
  local id=$1 seconds=$2 began=$SECONDS code
  shift 2
  while true; do
    look
    code=$(code_of "$id")
    if [ -n "$code" ]; then
      [ "$code" -eq 0 ] || fail "$id: is waited for, and has failed"
      return 0
    fi
    if "$@"; then
      break
    fi
    [ $((SECONDS - began)) -le "$seconds" ] || fail "$id: is not healthy after ${seconds}s"
    sleep 0.1
  done
  look # whoever has answered may have been somebody else
  say "$id: healthy"
}

# until_completed ID waits until a component has exited with 0.
until_completed() {
  local code
  while code=$(code_of "$1") && [ -z "$code" ]; do
    sleep 0.1
    look
  done
  [ "$code" -eq 0 ] || fail "$1: is waited for, and has failed"
}

# until_ended ID waits until a component has exited, however.
until_ended() {
  while [ -z "$(code_of "$1")" ]; do
    sleep 0.1
    look
  done
}

# The questions. http: 2xx, and a JSON status that is neither unhealthy nor starting.
http() { # URL SECONDS
  local answer
  answer=$(curl -sS --noproxy '*' --max-time "$2" -w '\n%{http_code}' -- "$1" 2>/dev/null) || return 1
  case "${answer##*$'\n'}" in
    2??) ;;
    *) return 1 ;;
  esac
  [[ ! $answer =~ \"status\"[[:space:]]*:[[:space:]]*\"(unhealthy|starting)\" ]]
}

port_open() { # PORT
  (exec 3<>"/dev/tcp/localhost/$1") 2>/dev/null
}

exits_well() { # FUNCTION
  ("$1") >/dev/null 2>&1 </dev/null
}

# stop_all stops what was started, the last first. A second signal ends the patience.
stop_all() {
  local i began patient=yes
  stopping=yes
  trap 'patient=no' HUP INT TERM
  for ((i = ${#ids[@]} - 1; i >= 0; i--)); do
    look
    [ -z "${codes[i]}" ] || continue
    say "${ids[i]}: stopping"
    kill "-${signals[i]}" -- "-${pids[i]}" 2>/dev/null || true
    began=$SECONDS
    while kill -0 -- "-${pids[i]}" 2>/dev/null; do
      if [ $patient = no ] || [ $((SECONDS - began)) -gt "${graces[i]}" ]; then
        kill -KILL -- "-${pids[i]}" 2>/dev/null || true
      fi
      # The dead whom nobody buries count as living: there has to be an end.
      [ $((SECONDS - began)) -le $((graces[i] + 5)) ] || break
      sleep 0.1
    done
    say "${ids[i]}: stopped"
  done
}

trap stop_all EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
