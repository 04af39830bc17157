# What a container's runtime does, as far as a server sees it: `cell.sh LOWER DIR ADDRESS... -- MOUNT...`, in mount, network
# and process namespaces of its own. MOUNT is `bind:SOURCE:TARGET`, `state:UID:GID:TARGET`, or `tmpfs:TARGET:OPTIONS`.
lower=$1 dir=$2
shift 2
mount --make-rprivate /
ip link set lo up
while [ "$1" != -- ]; do
  ip address add "$1" dev lo
  shift
done
shift
mount -t tmpfs -o mode=755 tmpfs "$dir"
root=$dir/root
mkdir "$dir/upper" "$dir/work" "$dir/state" "$root"
mount -t overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" overlay "$root"
mkdir -p "$root/proc" "$root/dev" "$root/tmp"
# What is mounted over needs something to be mounted on, as long as the root can be written.
for mount; do
  case $mount in
    bind:*)
      target=${mount##*:} source=${mount#bind:} source=${source%:*}
      mkdir -p "$root${target%/*}"
      if [ -d "$source" ]; then mkdir -p "$root$target"; else [ -e "$root$target" ] || : >"$root$target"; fi
      ;;
    state:*) mkdir -p "$root${mount##*:}" ;;
    tmpfs:*) target=${mount#tmpfs:}; mkdir -p "$(readlink -m "$root${target%%:*}" | sed "s,^/run/,$root/run/,")" ;;
  esac
done
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for mount; do
  case $mount in
    bind:*)
      target=${mount##*:} source=${mount#bind:} source=${source%:*}
      mount --bind "$source" "$root$target"
      mount -o remount,bind,ro "$root$target"
      ;;
    state:*)
      rest=${mount#state:} uid=${rest%%:*} rest=${rest#*:} gid=${rest%%:*} target=${rest#*:}
      mkdir -p "$dir/state$target"
      chown "$uid:$gid" "$dir/state$target"
      mount --bind "$dir/state$target" "$root$target"
      ;;
    tmpfs:*)
      rest=${mount#tmpfs:} target=${rest%%:*} options=${rest#*:}
      # Docker mounts without these unless it is told otherwise; `/var/run` is a link to `/run`.
      mount -t tmpfs -o "nosuid,nodev,$options" tmpfs "$(readlink -m "$root$target" | sed "s,^/run/,$root/run/,")"
      ;;
  esac
done
echo ready
exec sleep infinity
