#!/bin/sh
# Builds the images of flowctl and of the components of the token-transfer
# pipeline: withobsrvr/flowctl:latest and so on. Arguments go to `docker build`,
# such as --no-cache. docs/images.md tells the rest.
#
#   DOCKER     the engine's program, docker (default) or podman
#   PREFIX     what stands before the names, withobsrvr
#   TAG        what stands behind them, latest
#   NODE_BASE  the image that the consumer is built on. Without it: the one that its
#              Dockerfile names if it is here or can be pulled, else one made of
#              this machine's own node
set -eu
cd "$(dirname "$0")/.."
. scripts/rootfs.sh
prefix=${PREFIX:-withobsrvr} tag=${TAG:-latest}

# Two at a time would pack each other's files. macOS has no flock: there it is for
# the user to see to.
if [ "$(uname -s)" = Linux ]; then
	exec 9<scripts/build-docker-images.sh
	flock 9
fi

# stage CONTEXT: an empty folder for a root file system, below the context.
stage() {
	root=$PWD/$1/.image/root
	rm -rf "$1/.image"
	mkdir -p "$root"
}

# program MODULE PACKAGE: adds a static program to the root file system. What it
# is made from is on the image's label, not in the program: an unchanged
# component makes an unchanged layer.
program() {
	(cd "$1" && CGO_ENABLED=0 GOOS=linux go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$root/usr/bin/" "$2")
}

# node_app: adds the consumer with the packages that it runs with, as its lock
# file says; those it is built with stay here.
node_app() {
	app=$root/app sdk=$root/app/node_modules/@withobsrvr/flowctl
	mkdir -p "$sdk"
	cp -R components/consumer_app/node/package.json components/consumer_app/node/proto "$app"
	cp -R sdk/node/package.json sdk/node/package-lock.json sdk/node/proto "$sdk"
	(cd components/consumer_app/node && node_modules/.bin/tsc --outDir "$app/dist")
	(cd sdk/node && node_modules/.bin/tsc --outDir "$sdk/dist")
	(cd "$sdk" && npm ci --omit=dev --ignore-scripts --prefer-offline --no-audit --no-fund --loglevel=error >/dev/null)
	rm -r "$app/dist/test" "$sdk/dist/test" "$sdk/dist/examples" "$sdk/package-lock.json"
}

# node_base [OPTION...]: prints the image to build the consumer on.
node_base() {
	official=$(sed -n 's/^ARG BASE=//p' components/consumer_app/Dockerfile)
	if [ -n "${NODE_BASE:-}" ]; then
		echo "$NODE_BASE"
	elif "$engine" image inspect "$official" >/dev/null 2>&1 || "$engine" pull --quiet "$official" >/dev/null 2>&1; then
		echo "$official"
	else
		echo "$official cannot be pulled: building on this machine's own node instead" >&2
		PREFIX=$prefix scripts/build-node-base.sh "$@"
	fi
}

base=$(node_base "$@")
scripts/build-components.sh # what the consumer is compiled with

# What only a checkout knows is said only there.
version=dev
if revision=$(git rev-parse HEAD 2>/dev/null); then
	version=$(git describe --tags --always --dirty)
	case $version in *-dirty) revision=$revision-dirty ;; esac
	set -- "$@" --label "org.opencontainers.image.version=$version" --label "org.opencontainers.image.revision=$revision"
	SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} # for builders that date images by it
	export SOURCE_DATE_EPOCH
fi
ldflags="-s -w -X github.com/withobsrvr/flowctl/internal/cli.version=$version"

stage .
skeleton "$root" nonroot
program . ./cmd/flowctl
mkdir -p "$root/var/lib/flowctl" "$root/pipeline"
pack "$root" .image/rootfs.tar home/nonroot var/lib/flowctl
build "$prefix/flowctl:$tag" . "$@"

ldflags="-s -w"
for name in stellar-live-source-datalake ttp-processor; do
	stage "components/$name"
	skeleton "$root" nonroot
	program "components/$name" .
	pack "$root" "components/$name/.image/rootfs.tar" home/nonroot
	build "$prefix/$name:$tag" "components/$name" "$@"
done

stage components/consumer_app
node_app
pack "$root" components/consumer_app/.image/rootfs.tar
build "$prefix/consumer-app:$tag" components/consumer_app --build-arg "BASE=$base" "$@"
