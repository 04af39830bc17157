#!/bin/sh
# The first process of a droplet, in new mount, pid, uts, ipc, net and cgroup namespaces: lays out the file
# systems as a container manager would (https://systemd.io/CONTAINER_INTERFACE/), moves into the root and
# becomes systemd.
#
# usage: init.sh TREE STATE N
set -eu
tree=$1 state=$2 n=$3
root=$state/root

# /proc is still the host's, so this is the process id that the host knows us by.
read -r pid _ </proc/self/stat
echo "$pid" >"$state/pid.new"
mv "$state/pid.new" "$state/pid"

# The host puts one end of the wire into our network namespace, and says so.
until [ -e "$state/wired" ]; do sleep 0.01; done
ip -batch - <<END
link set lo up
link set eth0 up
address add 10.213.$n.2/24 dev eth0
address add fd62:756e:646c:$n::2/64 dev eth0 nodad
route add default via 10.213.$n.1
route add default via fd62:756e:646c:$n::1 dev eth0
END

mount -t overlay overlay -o "lowerdir=$tree,upperdir=$state/upper,workdir=$state/work" "$root"
cd "$root"

mount -t proc -o nosuid,nodev,noexec proc proc
# Only the network's sysctls are the droplet's own; the others are the host's, and stay as the host has them.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then
  mount --bind proc/sysrq-trigger proc/sysrq-trigger
  mount -o remount,bind,ro proc/sysrq-trigger
fi

# Read-only, as udev and others take a writable /sys for leave to manage the devices.
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup

mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs run
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs tmp
mount -t tmpfs -o nosuid,mode=755 tmpfs dev
# Nodes of our own, not the host's: whoever changes their modes changes only these.
while read -r name number; do
  mknod -m 666 "dev/$name" c "${number%:*}" "${number#*:}"
done <<END
null 1:3
zero 1:5
full 1:7
random 1:8
urandom 1:9
tty 5:0
END
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,nosuid,noexec,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

# Docker's overlay2 cannot sit on an overlay.
for dir in docker containerd; do
  mkdir -p "var/lib/$dir"
  mount --bind "$state/$dir" "var/lib/$dir"
done

# The old root ends up stacked on the new one, and is let go of (pivot_root(2), "pivot_root(".", ".")").
pivot_root . .
umount -l .
cd /
# On a machine systemd does this itself, in a container it relies on it: credentials of services are mounted in a
# namespace of their own and propagate from there.
mount --make-rshared /
# The modules, the clock and the hardware are the host's.
exec env -i container=unshare PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio -- /usr/lib/systemd/systemd --unit=multi-user.target
