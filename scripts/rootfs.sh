# Root file systems of images. Sourced by the scripts that build images, never
# run. An image is one layer on its base: a tar that is the same, byte for byte,
# whenever its files are.

umask 022
export LC_ALL=C
engine=${DOCKER:-docker}

# The user of our images is a number, so that a cluster can see that it is not root.
user=65532

fail() {
	echo "$(basename "$0"): $*" >&2
	exit 1
}

"$engine" version >/dev/null 2>&1 ||
	fail "nobody answers '$engine version': start Docker, or set DOCKER to another program, such as podman"
"${TAR:-tar}" --version 2>/dev/null | grep -q 'GNU tar' ||
	fail "${TAR:-tar} is not GNU tar, which writes the same bytes each time: install it and set TAR, on macOS to gtar"

# skeleton DIR NAME: what programs take for granted where nothing else is: a
# folder for temporary files, names for root and our user, and that hosts are
# looked up in files first.
skeleton() {
	mkdir -p "$1/etc" "$1/tmp" "$1/home/$2"
	printf 'root:x:0:0:root:/:/sbin/nologin\n%s:x:%d:%d:%s:/home/%s:/sbin/nologin\n' "$2" "$user" "$user" "$2" "$2" >"$1/etc/passwd"
	printf 'root:x:0:\n%s:x:%d:\n' "$2" "$user" >"$1/etc/group"
	echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
}

# pack DIR TAR [FOLDER...]: DIR as a layer. Everything belongs to root but the
# folders, which are in the tar twice; the second time counts.
pack() {
	dir=$1 tar=$2
	shift 2
	chmod -R u=rwX,go=rX "$dir"
	[ ! -d "$dir/tmp" ] || chmod 1777 "$dir/tmp"
	layer -cf "$tar" --owner=0 --group=0 -C "$dir" .
	[ $# -eq 0 ] || layer -rf "$tar" --owner="$user" --group="$user" -C "$dir" "$@"
}

layer() {
	"${TAR:-tar}" --format=gnu --sort=name --mtime=@0 --numeric-owner --hard-dereference "$@"
}

# build NAME CONTEXT [OPTION...]: builds an image and says how large it is. What
# the builder says is shown only when it fails.
build() {
	name=$1 context=$2
	shift 2
	said=$("$engine" build --quiet --tag "$name" "$@" "$context" 2>&1) || {
		echo "$said" >&2
		fail "build $name: see above"
	}
	"$engine" image inspect --format '{{.Size}}' "$name" | awk -v name="$name" '{printf "%s  %.1f MB\n", name, $1 / 1e6}'
}
