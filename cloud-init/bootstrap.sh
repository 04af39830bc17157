#!/bin/sh
# First boot: fetch the activator by digest, check it, hand over. Safe to run again.
#
#   bundle-bootstrap REPOSITORY BUNDLE-DIGEST ACTIVATOR-DIGEST
#
# A registry that asks for a password finds it in /etc/bundle/netrc (curl's --netrc-file), if there is one.
set -eu
umask 022

repository=$1
bundle=$2
activator=$3

host=${repository%%/*}
name=${repository#*/}
url=https://$host/v2/$name/blobs/$activator
program=/usr/local/bin/bundle

say() { echo "bundle-bootstrap: $*" >&2; }

case $bundle$activator in
*@*) say "the user-data's blanks are not filled; make it with bundle cloud-init"; exit 1 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() {
	curl --silent --show-error --fail --location --proto =https --connect-timeout 10 --max-time 300 \
		--netrc-optional --netrc-file "$netrc" "$@"
}

netrc=/etc/bundle/netrc
[ -r "$netrc" ] || netrc=/dev/null

# One field of the challenge `Bearer realm="…",service="…",scope="…"`.
field() { sed -n "s/.*[ ,]$1=\"\([^\"]*\)\".*/\1/p" "$work/challenge"; }

# Registries such as GHCR want a token even for what is public (OCI distribution-spec; Docker's token authentication).
# It goes into a file: what stands in an argument can be read by everybody.
token() {
	: >"$work/curlrc"
	curl --silent --show-error --proto =https --connect-timeout 10 --max-time 60 --head "$url" >"$work/head" || return
	tr -d '\r' <"$work/head" | grep -i '^www-authenticate: *bearer ' >"$work/challenge" || return 0
	fetch --get --data-urlencode "service=$(field service)" --data-urlencode "scope=repository:$name:pull" \
		--output "$work/token.json" "$(field realm)" || return
	sed -n 's/.*"\(access_\)\{0,1\}token" *: *"\([^"]*\)".*/header = "Authorization: Bearer \2"/p' \
		"$work/token.json" >"$work/curlrc"
}

get() { token && fetch --config "$work/curlrc" --output "$work/bundle" "$url"; }

tries=0
until get && echo "${activator#sha256:}  $work/bundle" | sha256sum --check --status; do
	tries=$((tries + 1))
	if [ "$tries" -ge 10 ]; then
		say "could not get the activator $activator from $host/$name"
		exit 1
	fi
	say "the activator did not arrive whole; trying again"
	sleep $((tries * 3))
done

install -m 0755 "$work/bundle" "$program.new"
mv -f "$program.new" "$program"

rm -rf "$work"
exec "$program" switch "$bundle"
