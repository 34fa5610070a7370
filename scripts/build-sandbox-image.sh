#!/bin/sh
# Builds images of Redis and PostgreSQL out of Debian packages, for tests on
# machines where no registry can be reached: flowctl-test/redis:local and
# flowctl-test/postgres:local. They keep what others expect of the official
# images: see scripts/sandbox. An image whose packages and files have not changed
# is left alone.
#
#   usage: build-sandbox-image.sh [redis] [postgres]
#
#   DOCKER  the engine's program, docker (default) or podman
#   PREFIX  what stands before the names, flowctl-test
#   TAG     what stands behind them, local
set -eu
cd "$(dirname "$0")/.."
. scripts/rootfs.sh
command -v apt-get >/dev/null || fail "the images are made of Debian packages, and this machine has no apt-get: pull the official ones"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/nothing"

# apt acts for a system on which nothing is installed, and leaves this one's state alone.
apt() {
	apt-get -qq -o Dir::State::status="$work/nothing" -o Dir::Cache="$work" -o Debug::NoLocking=true -o APT::Sandbox::User=root \
		-o APT::Install-Recommends=false "$@"
}

# packages NAME...: the packages that these need, name=version, without those
# that only set others up, which nobody does here, and the compiler PostgreSQL
# can do without.
packages() {
	apt --print-uris --yes install "$@" | awk '{print $2}' | sed -n 's/^\([^_]*\)_\(.*\)_[^_]*\.deb$/\1=\2/p' | sed 's/%3a/:/' |
		grep -Ev '^(perl|perl-.*|libperl.*|.*-perl|dpkg|debconf|adduser|passwd|usrmerge|init-system-helpers|sysvinit-utils|lsb-base|ucf|sensible-utils|tar|openssl|ssl-cert|locales|libc-l10n|postgresql-common|postgresql-client-common|libllvm.*|libz3-.*)='
}

# sandbox NAME FOLDERS PACKAGE...: the image of one service, which writes into the folders.
sandbox() {
	service=$1 folders=$2 image=${PREFIX:-flowctl-test}/$1:${TAG:-local}
	shift 2
	list=$(packages "$@" busybox-static) || fail "apt-get does not know $*: run apt-get update"
	made_of=$({ echo "$list"; cat scripts/build-sandbox-image.sh scripts/rootfs.sh scripts/sandbox/"$service"/*; } | sha256sum | cut -c1-16)
	if [ "$("$engine" image inspect --format '{{index .Config.Labels "made-of"}}' "$image" 2>/dev/null)" = "$made_of" ]; then
		echo "$image  is up to date"
		return
	fi

	root=$work/$service/root
	mkdir -p "$work/$service/debs" "$root"
	(cd "$work/$service/debs" && apt download $list) || fail "the packages of $service cannot be had: run apt-get update, and look whether Debian's servers can be reached"
	for deb in "$work/$service/debs"/*.deb; do
		dpkg-deb --extract "$deb" "$root"
	done
	rm -rf "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale "$root"/usr/lib/postgresql/*/lib/bitcode "$root"/usr/lib/postgresql/*/lib/llvmjit*
	skeleton "$root" "$service"
	for applet in $("$root/bin/busybox" --list); do
		[ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
	done
	install -m 755 scripts/sandbox/"$service"/start "$root/usr/bin/start-$service"
	(cd "$root" && mkdir -p $folders)
	pack "$root" "$work/$service/rootfs.tar" "home/$service" $folders
	rm -rf "$root" "$work/$service/debs"
	build "$image" "$work/$service" --file scripts/sandbox/"$service"/Dockerfile --label "made-of=$made_of"
}

[ $# -gt 0 ] || set -- redis postgres
for wanted; do
	case $wanted in
	redis) sandbox redis data redis-server ;;
	postgres) sandbox postgres "var/lib/postgresql/data var/run/postgresql" postgresql-15 ;;
	*) fail "there is no $wanted: choose redis, postgres or both" ;;
	esac
done
