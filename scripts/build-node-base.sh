#!/bin/sh
# Builds an image with this machine's own node in it, and prints its name:
# withobsrvr/node-base:VERSION. It is for machines where no registry can be
# reached; its files come from this machine alone, in a few seconds. It has node
# and the libraries that node is linked to, and no shell. Arguments go to
# `docker build`.
#
#   DOCKER, PREFIX  as for build-docker-images.sh
#   NODE            the program, node
set -eu
cd "$(dirname "$0")/.."
. scripts/rootfs.sh

[ "$(uname -s)" = Linux ] || fail "an image needs a node for Linux, and this machine has none: set NODE_BASE to an image that can be pulled"
node=$(command -v "${NODE:-node}") || fail "there is no ${NODE:-node} on this machine: install Node, or set NODE_BASE"
node=$("$node" -p process.execPath) # not the link or the script of a version manager
version=$("$node" --version)
name=${PREFIX:-withobsrvr}/node-base:$version

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
skeleton "$root" nonroot
mkdir -p "$root/usr/local/bin"
cp "$node" "$root/usr/local/bin/node"

# ldd names the libraries and, in its last column but one, where they are.
ldd "$node" | tr -s ' \t' '\n' | grep '^/' | sort -u | while read -r library; do
	mkdir -p "$root$(dirname "$library")"
	cp -L "$library" "$root$library"
done

pack "$root" "$work/rootfs.tar" home/nonroot
rm -rf "$root"
cat >"$work/Dockerfile" <<-EOF
	FROM scratch
	LABEL org.opencontainers.image.title="node-base" org.opencontainers.image.version="$version" \\
	      org.opencontainers.image.description="Node $version of the machine that built this image"
	ADD rootfs.tar /
	ENV PATH=/usr/local/bin:/usr/bin:/bin
	ENTRYPOINT ["node"]
EOF
build "$name" "$work" "$@" >&2
ran=$("$engine" run --rm --network none "$name" --version) || ran=nothing
[ "$ran" = "$version" ] ||
	fail "$node does not run in an image made of it and its libraries: set NODE_BASE to an image that can be pulled"
echo "$name"
