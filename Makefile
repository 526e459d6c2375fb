# Everything here is a plain go command that can be typed as well. "make help" lists what there is.

GO ?= go
BIN ?= bin

.DEFAULT_GOAL := help
.PHONY: help build test race lint fmt demo image-binaries ci

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## worker, enqueue and simulator into bin/
	$(GO) build -o $(BIN)/ ./cmd/...

test: ## every test that needs nothing installed; those with a real Redis or Chromium run where these are on PATH
	$(GO) test ./...

race: ## the same with the race detector and what takes minutes; fails where redis-server or chromium is missing
	RECALLQ_REQUIRE_REDIS=1 RECALLQ_REQUIRE_CHROMIUM=1 RECALLQ_LONG=1 $(GO) test -race -count=1 -timeout 30m ./...

lint: ## gofmt, go vet and staticcheck
	@test -z "$$(gofmt -l .)" || { echo "run: gofmt -w $$(gofmt -l . | tr '\n' ' ')"; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

fmt: ## format the code
	gofmt -w .

demo: ## recalls of every outcome against the five simulated vendors; Ctrl-C ends it
	$(GO) run ./cmd/worker --demo

image-binaries: ## worker and enqueue as the Dockerfile builds them: static, without paths of this machine
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o $(BIN)/ ./cmd/worker ./cmd/enqueue

ci: ## all that has to pass before a change lands
	.ci/run
