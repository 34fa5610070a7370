#!/usr/bin/env bash
# Everything that can be said of the tree without running its tests. Called by `make check`.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.tools:$PATH"

step() { printf -- '-- %s\n' "$*"; }
fail() { printf 'check: %s\n' "$*" >&2; exit 1; }

# sources are the Go files somebody wrote.
sources() {
  git ls-files --cached --others --exclude-standard '*.go' | grep -v '\.pb\.go$' | while read -r f; do [ ! -f "$f" ] || echo "$f"; done
}

step "format"
unformatted=$(sources | xargs gofmt -l)
[ -z "$unformatted" ] || fail "not gofmt'ed: $unformatted"

step "vet and staticcheck"
go vet ./...
staticcheck ./...

step "size of files and functions"
long=$(sources | xargs wc -l | awk '$2 != "total" && $1 > 500 {print $2" ("$1")"}')
[ -z "$long" ] || fail "files over 500 lines: $long"

step "generated code"
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
buf generate --output "$fresh"
for f in $(cd "$fresh" && find . -name '*.go'); do
  cmp -s "$fresh/$f" "$f" || fail "$f is not what its proto file says: run make generate"
done

step "builds for other systems"
for os in linux darwin; do
  for arch in amd64 arm64; do
    GOOS=$os GOARCH=$arch CGO_ENABLED=0 go build -o /dev/null ./cmd/flowctl
  done
done

step "module graph"
for mod in $(git ls-files --cached --others --exclude-standard 'go.mod' '*/go.mod'); do
  (cd "$(dirname "$mod")" && go mod tidy -diff >/dev/null) || fail "$mod is not tidy: run go mod tidy in its folder"
done

step "examples"
bin/flowctl validate examples/*.yaml
bin/flowctl translate examples/ttp-pipeline.yaml -o compose >/dev/null 2>&1 || fail "examples/ttp-pipeline.yaml has no translation to Compose"
for f in examples/*.yaml; do
  bin/flowctl translate "$f" -o local 2>/dev/null | bash -n || fail "$f has no translation to a script"
done

echo "check: ok"
