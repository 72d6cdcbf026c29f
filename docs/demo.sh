#!/bin/bash
# A guest and its host on this machine, without VMware: `make demo` runs this with the installed package on PATH.
# Each answer is compared with what it must be; the first that differs ends the demo with status 1.
set -euo pipefail

room=$(mktemp -d)
cd "$room"
host=
finish() {
    [ -z "$host" ] || kill "$host" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$room"
}
trap finish EXIT

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# expect PATTERN COMMAND…: shows the command and its answer, which must match.
expect() {
    local pattern=$1 answer
    shift
    printf '$ %s\n' "${*@Q}" | sed "s,'\([[:alnum:]./:=-]*\)',\1,g"
    answer=$("$@" 2>&1) || { printf '%s\ndemo: exit status %d\n' "$answer" $? >&2; exit 1; }
    [ -z "$answer" ] || printf '%s\n' "$answer"
    # shellcheck disable=SC2053  # a pattern is meant
    [[ $answer == $pattern ]] || { printf 'demo: that must match: %s\n' "$pattern" >&2; exit 1; }
}

title "1. A simulated VMware host, with a variable that it shows its guest"
echo "\$ vmtools sim serve host.socket --set guestinfo.hello='Hello from the host' --transcript transcript &"
vmtools sim serve host.socket --set guestinfo.hello='Hello from the host' --transcript transcript &
host=$!
for _ in {1..100}; do
    [ -S host.socket ] && break
    kill -0 "$host" || { echo "demo: the host did not start" >&2; exit 1; }
    sleep 0.1
done

title "2. The guest reads it: real instructions, that trap, and that this host answers"
expect "Hello from the host" vmtools sim run --host host.socket -- vmware-rpctool-py 'info-get guestinfo.hello'

title "3. The guest sets one, and the host sees it"
expect "" vmtools sim run --host host.socket -- vmware-rpctool-py 'info-set guestinfo.answer 42'
expect "42" vmtools sim guestinfo host.socket guestinfo.answer

title "4. What went over the wire: one line for each time the guest trapped"
kill "$host"
wait "$host"
host=
expect "*info-get guestinfo.hello*Hello from the host*info-set guestinfo.answer 42*" vmtools sim show transcript

title "All as it must be."
