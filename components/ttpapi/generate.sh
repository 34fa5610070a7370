#!/bin/sh
# Generates the Go code of this module with the buf, protoc-gen-go and
# protoc-gen-go-grpc found in PATH. The Stellar SDK's proto files are taken from
# the module that go.mod pins, so that nothing of theirs is copied here.
set -eu
cd "$(dirname "$0")"

sdk=$(go list -m -f '{{.Dir}}' github.com/stellar/go-stellar-sdk)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/ours/rawledger" "$work/ours/tokentransfer"
cp rawledger/*.proto "$work/ours/rawledger/"
cp tokentransfer/*.proto "$work/ours/tokentransfer/"
cp -R "$sdk/protos" "$work/stellar"
chmod -R u+w "$work"
cat >"$work/buf.yaml" <<'YAML'
version: v2
modules:
  - path: ours
  - path: stellar
YAML

buf generate "$work" --template buf.gen.yaml --output . \
	--path "$work/ours/rawledger" --path "$work/ours/tokentransfer"
