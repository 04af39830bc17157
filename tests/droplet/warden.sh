#!/bin/sh
# Waits until its standard input ends, because the test let go of it or because the test is gone, however that
# came about; then removes everything that the droplet was made of.
#
# usage: warden.sh STATE CGROUP VETH
set -eu
state=$1 cgroup=$2 veth=$3

while read -r _; do :; done

if [ -d "$cgroup" ]; then
  echo 1 >"$cgroup/cgroup.kill"
  tries=0
  while grep -q '^populated 1' "$cgroup/cgroup.events"; do
    tries=$((tries + 1))
    if [ $tries -gt 1000 ]; then
      echo "processes in $cgroup do not end" >&2
      exit 1
    fi
    sleep 0.02
  done
  find "$cgroup" -depth -type d -exec rmdir {} +
fi
# The network namespace takes it along, but in its own time.
ip link delete "$veth" 2>/dev/null || true
rm -rf --one-file-system "$state"
