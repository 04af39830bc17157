# shellcheck shell=bash disable=SC2154 # `cache` is of the script that reads this in
# Part of tests/setup, which reads this in: the stock machines, as a cloud provider's images have them, and the
# package mirror they see. Nothing of this project is in them.
#
# `stock_dir RELEASE` names a directory in the cache with
#
#   root/      the tree
#   disk.img   the same as an ext4 file system on a sparse disk without partitions, labelled `root`
#   kernel, initrd   what boots it
#   mirror/    what the release's archive answers on HTTP, by path: the signed indexes, whole, and of the packages
#              only those that a first boot asks for
#   versions   the versions of what matters, one per line
#
# All of it is made at one time, so that indexes and installed packages agree.

stock_releases=(trixie bookworm noble)

# Runs outside the tree, with its path as the argument: takes out what mmdebstrap copied from the builder, and leaves
# what the makers of cloud images leave (no host keys; an empty machine-id means "make one at boot", machine-id(5)).
# shellcheck disable=SC2016 # `$1` is for the hook's own shell
stock_common_hook='set -eu
cd "$1"
rm -f etc/ssh/ssh_host_*_key* etc/apt/sources.list.d/* etc/apt/apt.conf.d/99mmdebstrap
echo localhost >etc/hostname
: >etc/machine-id
ln -sfn ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf'

# What differs from release to release.
stock_recipe() {
  stock_packages=(
    systemd systemd-sysv systemd-resolved libpam-systemd dbus udev kmod procps
    initramfs-tools zstd e2fsprogs netplan.io cloud-init
    openssh-server sudo curl ca-certificates iproute2 python3
  )
  # What may be asked for at a first boot, by its name or in any choice of these names.
  stock_wanted=(docker.io haproxy nftables curl ca-certificates jq unattended-upgrades)
  stock_components=(main)
  stock_hook=$stock_common_hook
  case $1 in
    trixie | bookworm)
      stock_host=deb.debian.org stock_path=debian stock_keyring=debian-archive-keyring
      stock_packages+=(linux-image-cloud-amd64)
      stock_wanted+=(docker-compose)
      if [[ $1 == bookworm ]]; then
        # cloud-init 22.4 sets this locale, but does not make it.
        stock_hook+='
echo "en_US.UTF-8 UTF-8" >etc/locale.gen
chroot . locale-gen
echo LANG=en_US.UTF-8 >etc/default/locale'
      else
        stock_wanted+=(docker-cli docker-buildx)
      fi
      ;;
    noble)
      stock_host=archive.ubuntu.com stock_path=ubuntu stock_keyring=ubuntu-archive-keyring
      stock_components+=(universe)
      stock_packages+=(linux-image-virtual ubuntu-keyring locales lsb-release)
      # The mirror has the release as it came out, without its updates: cloud-init is not to put those in.
      stock_hook+='
echo "apt: {preserve_sources_list: true}" >etc/cloud/cloud.cfg.d/90-archive.cfg'
      stock_wanted+=(docker-compose-v2 docker-buildx)
      ;;
    *) fail "unknown release \`$1\`; there is a recipe for: ${stock_releases[*]}" ;;
  esac
}

stock_source() {
  printf 'deb %s %s %s\n' "$2" "$1" "${stock_components[*]}"
}

stock_dir() {
  stock_recipe "$1"
  local hash
  hash=$(
    printf '%s\n' 'stock 1' "$1" "$stock_host" "${stock_packages[@]}" -- "${stock_wanted[@]}" "$stock_hook"
    declare -f stock_build stock_indexes stock_debs stock_source
  )
  printf '%s/stock-%s-%s\n' "$cache" "$1" "$(sha256sum <<<"$hash" | cut -c1-16)"
}

# The archive to build from: for Debian the one this machine installs from itself.
stock_origin() {
  if [[ $stock_path == debian ]]; then mirror; else printf 'http://%s/%s\n' "$stock_host" "$stock_path"; fi
}

# stock_indexes RELEASE ORIGIN DIR: InRelease, and of what it names the package lists, under all names that apt uses.
stock_indexes() {
  local dists=$3/dists/$1 component name hash
  mkdir -p "$dists"
  curl -sSf -o "$dists/InRelease" "$2/dists/$1/InRelease"
  for component in "${stock_components[@]}"; do
    for name in "$component/binary-amd64/Packages.xz" "$component/i18n/Translation-en.xz"; do
      hash=$(sed -n '/^SHA256:/,/^[^ ]/p' "$dists/InRelease" | awk -v name="$name" '$3 == name { print $1 }')
      [[ -n $hash ]] || continue
      curl -sSf --create-dirs -o "$dists/$name" "$2/dists/$1/$name"
      sha256sum --quiet -c - <<<"$hash  $dists/$name"
      mkdir -p "$dists/${name%/*}/by-hash/SHA256"
      ln "$dists/$name" "$dists/${name%/*}/by-hash/SHA256/$hash"
    done
  done
}

# stock_debs RELEASE ORIGIN ROOT DIR SCRATCH: what the tree's own apt, which checks the signature, would fetch for any
# of the wanted packages, with what they recommend (as cloud-init installs) and without.
stock_debs() {
  local dir=$4 scratch=$5 uri file hash
  mkdir "$scratch" "$scratch/mirror" "$scratch/lists" "$scratch/cache" "$scratch/none"
  stock_source "$1" "copy:/mnt/mirror" >"$scratch/sources.list"
  # shellcheck disable=SC2016 # for the shell in the new namespace
  unshare --mount sh -euc '
    root=$1 dir=$2 scratch=$3; shift 3
    mount --bind "$scratch" "$root/mnt"
    mount --bind "$dir" "$root/mnt/mirror"
    apt() {
      chroot "$root" apt-get -qq -o Dir::Etc::SourceList=/mnt/sources.list -o Dir::Etc::SourceParts=/mnt/none \
        -o Dir::State::Lists=/mnt/lists -o Dir::Cache=/mnt/cache -o APT::Sandbox::User=root -o Acquire::ForceHash=SHA256 "$@"
    }
    apt update
    for package; do
      for recommends in true false; do
        apt -o APT::Install-Recommends=$recommends --print-uris install "$package"
      done
    done
    apt --print-uris install "$@"
    apt --print-uris --no-install-recommends install "$@"' \
    sh "$3" "$dir" "$scratch" "${stock_wanted[@]}" >"$scratch/uris"
  sort -u "$scratch/uris" | sed -n "s,^'copy:/mnt/mirror/\([^']*\)' [^ ]* [0-9]* SHA256:\([0-9a-f]*\)$,\1 \2,p" >"$scratch/list"
  [[ -s $scratch/list ]] || fail "apt in the $1 tree names no package to fetch: see $scratch/uris"
  while read -r uri hash; do
    # apt writes some characters as %xx.
    file=$(printf '%b' "${uri//%/\\x}")
    printf 'url = "%s/%s"\noutput = "%s/%s"\n' "$2" "$uri" "$dir" "$file" >>"$scratch/curl"
    printf '%s  %s/%s\n' "$hash" "$dir" "$file" >>"$scratch/sums"
  done <"$scratch/list"
  curl -sSf --no-progress-meter --create-dirs --retry 3 --parallel --parallel-max 8 -K "$scratch/curl"
  sha256sum --quiet -c "$scratch/sums"
}

# stock_build RELEASE OUT: makes the directory described above in OUT, which is empty.
stock_build() {
  local release=$1 out=$2 origin list
  stock_recipe "$release"
  export_proxy
  origin=$(stock_origin)
  list=$(IFS=, && printf '%s' "${stock_packages[*]}")
  SECONDS=0
  mmdebstrap --quiet --mode=root --variant=apt --keyring="/usr/share/keyrings/$stock_keyring.gpg" \
    --include="$list" --customize-hook="$stock_hook" \
    "$release" "$out/root" "$(stock_source "$release" "$origin")" 9>&-
  stock_source "$release" "http://$stock_host/$stock_path" >"$out/root/etc/apt/sources.list"
  say "$release: made the tree in $SECONDS s, $(du -sm "$out/root" | cut -f1) MB"

  SECONDS=0
  mkdir -p "$out/mirror/$stock_path"
  stock_indexes "$release" "$origin" "$out/mirror/$stock_path"
  stock_debs "$release" "$origin" "$out/root" "$out/mirror/$stock_path" "$out/scratch"
  rm -r "$out/scratch"
  say "$release: made the mirror in $SECONDS s, $(find "$out/mirror" -name '*.deb' | wc -l) packages, $(du -sm "$out/mirror" | cut -f1) MB"

  SECONDS=0
  cp "$out"/root/boot/vmlinuz-* "$out/kernel"
  cp "$out"/root/boot/initrd.img-* "$out/initrd"
  truncate -s 8G "$out/disk.img"
  mkfs.ext4 -q -L root -E lazy_itable_init=0,lazy_journal_init=0 -d "$out/root" "$out/disk.img"
  say "$release: made the disk in $SECONDS s, $(du -sm "$out/disk.img" | cut -f1) MB"
  # shellcheck disable=SC2016 # dpkg fills these in
  chroot "$out/root" dpkg-query -W -f '${Package} ${Version}\n' cloud-init systemd openssh-server netplan.io >"$out/versions"
  find "$out/mirror" -name '*.deb' -printf '%f\n' | sed 's/_[^_]*$//; s/_/ /' |
    grep -E '^(docker|haproxy|nftables)' | sort >>"$out/versions"
}

# Makes what `stock_dir RELEASE` names, if it is not there.
stock_make() {
  local dir partial=$cache/stock.partial
  dir=$(stock_dir "$1")
  mkdir -p "$cache"
  exec 9>"$cache/stock.lock"
  flock 9
  if [[ ! -d $dir ]]; then
    # The tree holds set-user-id programs that nobody updates: root only.
    rm -rf --one-file-system "$partial"
    mkdir -m 700 "$partial"
    stock_build "$1" "$partial"
    mv -T "$partial" "$dir"
  fi
  say "the stock machine is in $dir"
}
