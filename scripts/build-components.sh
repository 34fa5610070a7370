#!/bin/sh
# Builds the components that the examples run: the Go ones into
# components/<name>/bin/<name>, the Node ones into their dist folders. What is up
# to date is left alone, so that a second run takes no time worth mentioning.
set -eu
cd "$(dirname "$0")/.."
root=$PWD

go_component() {
	cd "$root/components/$1"
	CGO_ENABLED=0 go build -trimpath -o "bin/$1" .
}

# outdated STAMP PATH...: is anything below the paths newer than the stamp?
outdated() {
	stamp=$1
	shift
	[ ! -e "$stamp" ] || [ -n "$(find "$@" \( -name node_modules -o -name dist \) -prune -o -newer "$stamp" -type f -print | head -n 1)" ]
}

# node_package FOLDER [DEPENDENCY]: installs and builds one package. The stamps
# say when that was last done with success.
node_package() {
	cd "$root/$1"
	if outdated node_modules/.installed package.json package-lock.json; then
		npm ci --no-audit --no-fund
		touch node_modules/.installed
	fi
	if outdated dist/.built . ${2:+"$root/$2"}; then
		npm run build
		touch dist/.built
	fi
}

node_packages() {
	(node_package sdk/node) && (node_package components/consumer_app/node sdk/node)
}

# All at the same time; wait gives each one's exit code.
node_packages & jobs=$!
for name in stellar-live-source-datalake ttp-processor ledger-lake; do
	(go_component "$name") &
	jobs="$jobs $!"
done
failed=0
for job in $jobs; do
	wait "$job" || failed=1
done
exit "$failed"
