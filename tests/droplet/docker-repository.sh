#!/bin/sh
# Makes a package repository as Docker publishes one, for Debian 12: the names and the form are Docker's, the programs
# are those of Debian 13, which run on Debian 12 too (its own runc and tini with them).
#
#   docker-repository.sh TREE OUT
#
# TREE is a tree of Debian 13 with Docker in it. OUT gets dists/, pool/ and key.asc.
set -eu
tree=$1 out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out/pool" "$out/dists/bookworm/stable/binary-amd64"

# package NAME DEPENDS FILE…: a package with these files of the tree; `postinst` in the work directory is its script.
package() {
	name=$1 depends=$2
	shift 2
	mkdir -p "$work/$name/DEBIAN"
	printf 'Package: %s\nVersion: 26.1.5\nArchitecture: amd64\nMaintainer: nobody <nobody@example.com>\nDescription: for a test\n' \
		"$name" >"$work/$name/DEBIAN/control"
	[ -z "$depends" ] || echo "Depends: $depends" >>"$work/$name/DEBIAN/control"
	[ ! -e "$work/postinst" ] || install -m 755 "$work/postinst" "$work/$name/DEBIAN/postinst"
	rm -f "$work/postinst"
	for file; do
		mkdir -p "$work/$name/${file%/*}"
		cp "$tree/$file" "$work/$name/$file"
	done
	dpkg-deb --build --root-owner-group -Zgzip -z1 "$work/$name" "$out/pool" >/dev/null
}

units=usr/lib/systemd/system
printf '#!/bin/sh\nsystemctl daemon-reload\nsystemctl enable --now containerd.service\n' >"$work/postinst"
package containerd.io runc usr/bin/containerd usr/bin/containerd-shim-runc-v2 usr/bin/ctr $units/containerd.service
package docker-ce-cli '' usr/bin/docker
package docker-compose-plugin '' usr/libexec/docker/cli-plugins/docker-compose
printf '#!/bin/sh\ngroupadd --force --system docker\nsystemctl daemon-reload\nsystemctl enable --now docker.service\n' >"$work/postinst"
package docker-ce 'containerd.io, docker-ce-cli, iptables, tini' usr/sbin/dockerd usr/bin/docker-init $units/docker.service $units/docker.socket

cd "$out"
packages=dists/bookworm/stable/binary-amd64/Packages
dpkg-scanpackages --multiversion pool >"$packages" 2>/dev/null
{
	printf 'Origin: Docker\nSuite: bookworm\nCodename: bookworm\nComponents: stable\nArchitectures: amd64\n'
	printf 'Date: %s\nSHA256:\n %s %s stable/binary-amd64/Packages\n' "$(date -Ru | sed 's/+0000/UTC/')" \
		"$(sha256sum <"$packages" | cut -d ' ' -f 1)" "$(stat -c %s "$packages")"
} >"$work/Release"
export GNUPGHOME="$work/gnupg"
mkdir -m 700 "$GNUPGHOME"
gpg --batch --quiet --passphrase '' --quick-generate-key 'Test <test@example.com>' rsa3072 sign never
gpg --batch --quiet --clearsign --output dists/bookworm/InRelease "$work/Release"
gpg --batch --quiet --armor --export >key.asc
gpgconf --kill all
