# `make` lists what can be made.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/withobsrvr/flowctl/internal/cli.version=$(VERSION)
# Modules of their own, with tests of their own.
COMPONENTS := components/ttpapi components/stellar-live-source-datalake components/ttp-processor components/ledger-lake
# The S3 and GCS servers it starts are large: compiled without the race detector.
STORAGETEST := components/stellar-live-source-datalake/storagetest
DEMO := .demo

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/flowctl
	@go build -trimpath -ldflags '$(LDFLAGS)' -o bin/flowctl ./cmd/flowctl

.PHONY: components
components: ## Build the components of the token-transfer pipeline and the Node SDK
	@scripts/build-components.sh

.PHONY: images
images: ## Build the container images of flowctl and the components
	@scripts/build-docker-images.sh

.PHONY: demo
demo: build components ## Run the real token-transfer pipeline on a real ledger
	@components/ledger-lake/bin/ledger-lake --dir $(DEMO)/lake
	@bin/flowctl run examples/ttp-pipeline.yaml --control-plane-port 0 --log-dir $(DEMO)/logs
	@echo
	@echo "That was the pipeline of examples/ttp-pipeline.yaml on ledger 53312000 of the public network."
	@echo "  what it printed:      $(DEMO)/logs/"
	@echo "  what flowctl planned: bin/flowctl plan examples/ttp-pipeline.yaml"
	@echo "  one that never ends:  bin/flowctl run examples/ttp-live.yaml"
	@echo "  the first five minutes and more: README.md"

.PHONY: test
test: build components check test-go test-compose test-components test-node ## Run all tests

# gotestsum says at the end which tests were skipped, and why. Results are never taken from
# the cache: Go does not see that the programs under test have changed, or an engine.
.PHONY: test-go
test-go: .tools/gotestsum ## Run flowctl's own tests, end-to-end tests included
	@.tools/gotestsum --format pkgname --format-hide-empty-pkg -- -race -shuffle=on -count=1 ./...

.PHONY: test-compose
test-compose: .tools/gotestsum ## Run translated pipelines with the Compose program (its first build takes a few minutes)
	@cd e2e/compose && go vet ./... && ../../.tools/gotestsum --format pkgname -- -shuffle=on -count=1 ./...

.PHONY: test-components
test-components: ## Run the tests of the Go components
	@for m in $(COMPONENTS); do echo "== $$m"; (cd $$m && go vet ./... && go test -race -shuffle=on ./...) || exit 1; done
	@echo "== $(STORAGETEST)"; cd $(STORAGETEST) && go vet ./... && go test -shuffle=on ./...

.PHONY: test-node
test-node: ## Run the tests of the Node SDK and the Node consumer
	cd sdk/node && npm test
	cd components/consumer_app/node && npm test

.PHONY: check
check: .tools/staticcheck build ## Check format, lint, generated code, documents, examples and builds for other systems
	@scripts/check.sh

.PHONY: bench
bench: build ## Measure flowctl against floors taken in the same run
	go run ./e2e/bench

.PHONY: generate
generate: .tools/buf ## Generate code, the JSON Schema and the reference from their sources
	PATH="$(CURDIR)/.tools:$$PATH" buf generate
	cd sdk/node && node scripts/proto.mjs
	cd components/ttpapi && PATH="$(CURDIR)/.tools:$$PATH" ./generate.sh
	go test ./internal/pipeline -run 'Reference|Schema' -update
	go test ./internal/cli -run Reference -update

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf bin .tools .image components/*/.image $(DEMO) components/*/bin sdk/node/dist sdk/node/node_modules components/consumer_app/node/dist components/consumer_app/node/node_modules

# The generators and the linter have a module of their own: flowctl's stays small.
.tools/%: tools/go.mod tools/go.sum
	@echo "building the tools (a few minutes the first time)"
	@mkdir -p .tools && cd tools && go build -o ../.tools/ tool && touch ../.tools/*
