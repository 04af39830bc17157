#!/bin/sh
# Runs a command for as long as this script's standard input is open: whoever holds the other end may be killed
# at any time, and the command goes with it.
#
# usage: tether.sh COMMAND [ARGUMENT…]
set -eu
"$@" </dev/null &
child=$!
while read -r _; do :; done
kill -KILL "$child" 2>/dev/null || true
wait "$child" || true
