#!/bin/sh
# The first boot: load the ground's firewall, install what is missing, fetch the activator by digest, hand over.
#
#   bundle-bootstrap           what bundle-bootstrap.service runs; safe to run again, at any time
#   bundle-bootstrap --start   what cloud-init runs: starts that unit and waits for what comes of it
#
# Everything that differs between machines is in /etc/bundle/bootstrap.conf. A registry that asks for a password finds
# it in /etc/bundle/netrc (curl's --netrc-file), if there is one.
#
# Exit codes: 0 done, or waiting for secrets; 1 worth another try, which the unit makes; 3 a person is needed.
# shellcheck disable=SC2154 # what is used and not set here is set by the settings
set -eu
umask 022
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

settings=/etc/bundle/bootstrap.conf
home=/var/lib/bundle
state=$home/first-boot
program=/usr/local/bin/bundle
policy=/usr/sbin/policy-rc.d
unit=bundle-bootstrap.service
# What a state ends with after which the unit starts again. `--start` looks for it.
goes_on="tries again every minute, whatever \`cloud-init status\` says"

# --- What is said -----------------------------------------------------------------------------------------

say() { printf '%s %s\n' "$(date -u +%FT%TZ)" "$*" >&2; }

# The state and one line for people, replaced as a whole. A full disk does not end the first boot.
note() {
	[ "$1" = "$phase" ] || since=$(date +%s)
	phase=$1
	line=$(printf '%s' "$2" | tr '\n\t' '  ')
	{ printf 'state=%s\nsince=%s\nmessage=%s\n' "$1" "$since" "$line" >"$state.new" && mv -f "$state.new" "$state"; } ||
		say "cannot write $state"
}

enter() {
	say "$2"
	note "$1" "$2"
}

# Ends the first boot: a state, an exit code, and why.
stop() {
	settle
	enter "$1" "$2"
	exit "$3"
}

# What went wrong in the last try: a key, by which it is recognised when it comes again, and the words.
because() {
	key=$1
	shift
	why=$*
}

# Says why, unless it is what was said last.
complain() {
	if [ "$key" = "$complaint" ]; then
		times=$((times + 1))
		# Said once; but whoever looks at the state is to see it at any time.
		note "$phase" "$why"
		return
	fi
	settle
	complaint=$key
	times=1
	say "$why"
	note "$phase" "$why"
}

settle() {
	[ "$times" -le 1 ] || say "again, $((times - 1)) times: $complaint"
	times=0
	complaint=
}

# Seconds since power-on: unlike the clock, they do not jump.
uptime() { cut -d . -f 1 /proc/uptime; }

# Tries a function again and again, further and further apart.
insist() {
	began=$(uptime)
	pause=$first_pause
	until "$@"; do
		complain
		if [ $(($(uptime) - began)) -ge "$patience" ]; then
			stop waiting "$why (tried for $patience s; $goes_on)" 1
		fi
		sleep "$pause"
		pause=$((pause * 2))
		[ "$pause" -le "$longest_pause" ] || pause=$longest_pause
	done
	settle
}

# --- Firewall and packages --------------------------------------------------------------------------------

ground() {
	[ -e /etc/bundle/ground.nft ] || return 0
	command -v nft >/dev/null || return 0
	systemctl enable --quiet bundle-ground.service
	systemctl start bundle-ground.service ||
		say "the firewall of the first boot does not load: systemctl status bundle-ground.service"
}

all_there() {
	for each in $programs; do
		command -v "$each" >/dev/null || return 1
	done
	# Unpacked is not installed: the power may have gone in between.
	# shellcheck disable=SC2016,SC2086 # for dpkg-query; a list
	! dpkg-query --show --showformat '${db:Status-Status}\n' $packages 2>/dev/null | grep -Eq '^(unpacked|half-)' || return 1
	docker compose version >/dev/null 2>&1
}

# The platform may be installing packages of its own at the same time.
apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 -o APT::Update::Error-Mode=any \
		-o Dpkg::Options::=--force-confold "$@" >"$work/apt" 2>&1 9>&-
}

# apt's own words. The whole is in /var/log/apt/term.log.
apt_says() { grep -m 1 '^E: ' "$work/apt" || tail -n 1 "$work/apt"; }

install_packages() {
	# Left half done by a loss of power.
	dpkg --configure -a >/dev/null 2>&1 9>&- || :
	stale=
	if [ -z "$updated" ]; then
		# One of several sources that is away is no reason not to try.
		if apt update; then updated=1; else stale=$(apt_says); fi
	fi
	apt --no-install-recommends install "$@" && return
	because "install $stale" "the packages cannot be installed: $(apt_says)"
	[ -z "$stale" ] || why="the lists of packages cannot be fetched: $stale"
	# Lists that are out of date name files that are gone.
	updated=
	return 1
}

# The distribution starts what it installs. Its HAProxy is not ours: it must not start, now or at the next boot.
deny_haproxy() {
	[ ! -e "$policy" ] || return 0
	cat >"$policy" <<-'END'
		#!/bin/sh
		# bundle-bootstrap
		case $1 in haproxy | haproxy.service) exit 101 ;; esac
	END
	chmod 0755 "$policy"
}

allow_haproxy() { ! grep -q '^# bundle-bootstrap$' "$policy" 2>/dev/null || rm -f "$policy"; }

packages() {
	if ! all_there; then
		enter waiting "installing packages"
		updated=
		if ! command -v nft >/dev/null; then
			insist install_packages nftables
			ground
		fi
		deny_haproxy
		# shellcheck disable=SC2086 # a list
		insist install_packages $packages
		systemctl disable --quiet haproxy.service || :
		allow_haproxy
		all_there || stop failed "the packages are installed, and yet one of these is missing: $programs, docker compose" 3
		say "the packages are installed"
	fi
	insist docker_answers
}

docker_answers() {
	systemctl start docker.service && docker info >/dev/null 2>&1 && return
	because docker "Docker does not answer: journalctl -u docker.service"
	return 1
}

# --- The activator ----------------------------------------------------------------------------------------

# Runs curl; `code` is its exit code then, `http` the answer's status.
ask() {
	code=0
	http=$(curl --silent --show-error --location --max-redirs 5 --proto =https --proto-redir =https --tlsv1.2 \
		--connect-timeout 10 --speed-limit 1000 --speed-time 30 --max-filesize 209715200 --cacert "$work/ca.pem" \
		--netrc-optional --netrc-file "$netrc" --write-out '%{http_code}' "$@" 2>"$work/curl") || code=$?
}

# What the last answer, which is not the one that was hoped for, means.
judge() {
	words=$(sed -n '1s/^curl: ([0-9]*) //p' "$work/curl")
	case $code in
	0) ;;
	5 | 6) because name "the name of the registry \`$host\` is not found: $words" && return ;;
	7) because connect "no connection to the registry \`$host\`: $words" && return ;;
	28) because slow "the registry \`$host\` does not answer in time: $words" && return ;;
	35 | 60) certificate && return ;;
	*) because "curl $code" "the activator does not come from \`$host\`: $words" && return ;;
	esac
	case $http in
	401 | 403) because password "\`$host\` wants a password for the activator ($http): it must be readable without one; name a repository that is in \`activator\` of \`[registry]\`" ;;
	404) because absent "\`$host/$name\` does not have the activator $activator: has it been pushed (\`bundle push\`)?" ;;
	*) because "status $http" "\`$host\` answers with status $http when it is asked for the activator" ;;
	esac
}

# A certificate that is not valid, or not yet: is it the certificate, or this machine's clock?
certificate() {
	curl --silent --verbose --insecure --head --max-time 20 --output /dev/null "https://$host/v2/" 2>"$work/dates" || :
	from=$(sed -n 's/^\* *start date: //p' "$work/dates" | head -n 1)
	to=$(sed -n 's/^\* *expire date: //p' "$work/dates" | head -n 1)
	if [ -n "$from" ] && [ -n "$to" ]; then
		now=$(date +%s)
		if [ "$now" -lt "$(date -d "$from" +%s)" ] || [ "$now" -gt "$(date -d "$to" +%s)" ]; then
			because clock "the certificate of \`$host\` is valid from $from until $to, and this machine's clock says $(date -u '+%b %e %T %Y GMT'): if the clock is wrong, set it (\`timedatectl\`)"
			return
		fi
	fi
	because certificate "\`$host\` is not trusted: $words; the certificate of its authority belongs into \`ca\` of \`[registry]\`"
}

# Registries such as GHCR want a token even for what everybody may read (Docker Registry API, "Token Authentication").
# It goes into a file: what stands in an argument can be read by everybody.
token() {
	tr -d '\r' <"$work/head" | grep -i '^www-authenticate: *bearer ' >"$work/challenge" || return 1
	realm=$(field realm)
	case $realm in https://*) ;; *) return 1 ;; esac
	ask --get --data-urlencode "service=$(field service)" --data-urlencode "scope=repository:$name:pull" \
		--output "$work/token" "$realm"
	[ "$code.$http" = 0.200 ] || return 1
	tr -d '\n' <"$work/token" |
		sed -n 's/.*"\(access_\)\{0,1\}token" *: *"\([A-Za-z0-9._~+/=-]*\)".*/header = "Authorization: Bearer \2"/p' \
			>"$work/curlrc"
	[ -s "$work/curlrc" ]
}

# One field of the challenge `Bearer realm="…",service="…",scope="…"`.
field() { sed -n "s/.*[ ,]$1=\"\([^\"]*\)\".*/\1/p" "$work/challenge"; }

fetch() {
	url=https://$host/v2/$name/blobs/$activator
	ask --dump-header "$work/head" --output "$program.new" "$url"
	if [ "$code.$http" = 0.401 ]; then
		if token; then
			ask --config "$work/curlrc" --output "$program.new" "$url"
		fi
	fi
	if [ "$code.$http" != 0.200 ]; then
		judge
		return 1
	fi
	got=sha256:$(sha256sum <"$program.new" | cut -d ' ' -f 1)
	[ "$got" != "$activator" ] || return 0
	wrong=$((wrong + 1))
	because bytes "the registry sent other bytes than the user-data asks for: got $got from \`$host/$name\`, not $activator"
	[ "$wrong" -lt "$most_wrong" ] || stop failed "$why ($wrong times); see what is wrong with that registry, then \`systemctl restart $unit\`" 3
	return 1
}

activator() {
	if [ "sha256:$(sha256sum 2>/dev/null <"$program" | cut -d ' ' -f 1)" = "$activator" ]; then
		return
	fi
	enter fetching "fetching the activator from $host/$name"
	netrc=/etc/bundle/netrc
	[ -r "$netrc" ] || netrc=/dev/null
	# What Docker trusts for this host, it trusts besides what the system does.
	cat /etc/ssl/certs/ca-certificates.crt "/etc/docker/certs.d/$host/"*.crt >"$work/ca.pem" 2>/dev/null || :
	wrong=0
	insist fetch
	chmod 0755 "$program.new"
	sync "$program.new"
	mv -f "$program.new" "$program"
	say "the activator $activator is there"
}

# --- The switch -------------------------------------------------------------------------------------------

# The generation that is current; nothing if there is none.
generation() { readlink "$home/current" | sed -n 's,^generations/\([0-9]*\)/.*,\1,p'; }

# What the activator said at the end, on one line.
last_words() {
	sed -n '/^error: /,/^$/p' "$work/said" | sed '/^$/d; s/^error: //; s/^ *- //' | paste -s -d ' ' -
}

# Whether no secret that was waited for is missing any more.
have_come() {
	answer=$("$program" status --json 2>/dev/null 9>&-) || return 1
	case $answer in
	*'"missing_secrets":["'*) return 1 ;;
	*'"missing_secrets":[]'*) return 0 ;;
	*) return 1 ;;
	esac
}

switch() {
	enter switching "switching to $bundle"
	rm -f "$work/code"
	# systemd tells every process to stop. The activator, which handles these signals however it was started, goes back
	# then; the others stay until it has, and so does this shell, which is waiting for them.
	{
		trap '' HUP INT TERM
		code=0
		"$program" switch --first-boot "$bundle" 2>&1 9>&- || code=$?
		echo "$code" >"$work/code"
	} | {
		trap '' HUP INT TERM
		tee "$work/said" >&2
	}
	code=$(cat "$work/code" 2>/dev/null || :)
	words=$(last_words)
	case $code in
	0 | 10) return 0 ;;
	40)
		words=$(grep '^waiting for secrets: ' "$work/said" | tail -n 1)
		# Whoever sent the last one while the switch was ending has found this unit running, and could not start it.
		have_come || return 0
		words="the secrets that were waited for have come"
		;;
	20 | 21) ;;
	# Gone back, or killed by a signal: out of memory, for example.
	'' | 30 | 12[89] | 1[3-9][0-9] | 2[0-9][0-9])
		[ "$code" = 30 ] || words="${words:-the activator was killed (exit code ${code:-unknown})}"
		failures=$((failures + 1))
		[ "$failures" -lt 3 ] || stop failed "$words ($failures times); see \`journalctl -u $unit\`, then \`systemctl restart $unit\`" 3
		;;
	*) stop failed "${words:-the activator ended with exit code $code}; see \`journalctl -u $unit\`, then \`systemctl restart $unit\`" 3 ;;
	esac
	because "switch $code $words" "${words:-the switch ended with exit code $code}"
	return 1
}

# --- All of it --------------------------------------------------------------------------------------------

run() {
	mkdir -p "$home"
	exec 9>/run/bundle-bootstrap.lock
	flock 9
	work=$(mktemp -d)
	trap 'allow_haproxy; rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	allow_haproxy
	case $bundle$activator in
	*@*) stop failed "the blanks of the user-data are not filled: \`bundle cloud-init PROFILE\` prints one that can be used" 3 ;;
	esac
	enter waiting "beginning"
	ground
	packages
	ground
	# A machine with a generation may have a later activator than the user-data knows.
	case $(generation) in
	'' | 0) activator ;;
	*) [ -x "$program" ] || activator ;;
	esac
	failures=0
	insist switch
	if [ "$code" -eq 40 ]; then
		words=$(grep '^waiting for secrets' "$work/said" | tail -n 1)
		stop waiting-for-secrets "${words:-waiting for secrets: \`bundle secrets set\`}" 0
	fi
	systemctl disable --quiet "$unit" || :
	case $code in
	0) stop 'done' "$bundle is current" 0 ;;
	*) stop 'done' "the machine has a generation of its own" 0 ;;
	esac
}

# Waits until the unit has come to an end, and ends like it, so that `cloud-init status` and `bundle status` agree.
start() {
	mkdir -p "$home"
	systemctl daemon-reload
	systemctl enable --quiet "$unit"
	note waiting "starting"
	systemctl start --no-block "$unit"
	shown=
	idle=0
	while :; do
		now=$(sed -n 's/^state=//p' "$state")
		message=$(sed -n 's/^message=//p' "$state")
		if [ "$now $message" != "$shown" ]; then
			shown="$now $message"
			say "$now: $message"
		fi
		case $now in
		'done' | waiting-for-secrets) return 0 ;;
		failed) return 1 ;;
		waiting)
			case $message in
			*"; $goes_on)")
				say "this ends cloud-init, with an error; $unit goes on, and $state says how far it is"
				return 1
				;;
			esac
			;;
		esac
		case $(systemctl is-active "$unit") in
		active | activating) idle=0 ;;
		*) idle=$((idle + 1)) ;;
		esac
		if [ "$idle" -ge 60 ]; then
			say "$unit has ended without saying how: journalctl -u $unit"
			return 1
		fi
		sleep 1
	done
}

phase=
complaint=
times=0
# shellcheck source=/dev/null
. "$settings"
case ${1-} in
'') run ;;
--start) start ;;
*)
	echo "usage: bundle-bootstrap [--start]" >&2
	exit 2
	;;
esac
