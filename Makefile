# Postern. `make` lists what there is; every target works from a fresh clone
# with Go, git and make.

MODULES  := ./... ./guard/... ./examples/...
FUZZTIME ?= 30s
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64
VERSION  := $(shell git describe --tags --always --dirty --abbrev=12 2>/dev/null || echo devel)

# The pinned tools of tools/go.mod, which is outside the workspace.
tool      = $$(GOWORK=off go tool -modfile=tools/go.mod -n $(1))
GOLANGCI := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.DEFAULT_GOAL := help
.PHONY: help dev try dev-reset test test-postgres faults teeth lint generate fuzz bench microbench conformance spec release release-check

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: ## Postern, a protected todo list and an OKR manager on this computer (ports: postern dev --help)
	@echo "compiling, first time takes a minute or two"
	@mkdir -p -m 700 .postern && mkdir -p .postern/bin
	@CGO_ENABLED=0 go build -o .postern/bin/ ./cmd/postern ./examples/todo ./examples/okr
	@exec .postern/bin/postern dev --policy examples/okr/policy.yaml -- .postern/bin/todo -- .postern/bin/okr

try: ## play an MCP client against make dev, step by step
	@go run ./examples/try

dev-reset: ## forget everything that make dev keeps in .postern
	@grep -qsx 'module github.com/postern-id/postern' go.mod || { echo "not in a clone of Postern"; exit 1; }
	@test ! -L .postern || { echo ".postern is a link; look where it leads and remove it yourself"; exit 1; }
	@rm -rf -- .postern
	@echo "forgotten; make dev starts afresh"

test: ## everything, on both databases; the last line counts
	@go run ./internal/testrun

test-postgres: ## the tests that know PostgreSQL, on a server of their own (ARGS="-run …")
	@go run ./internal/testrun postgres -fsync -- go test $(ARGS) $(or $(PKG),./internal/... ./examples/...)

faults: ## kill -9, full disks, fail-over and the like, in their long form; writes docs/faults.md (ARGS="-run Killed")
	@POSTERN_FAULTS=long go test ./faults -count=1 -timeout=4h -v $(ARGS) | grep -vE '^(===|--- PASS| +--- PASS|PASS|ok )'

teeth: ## takes checks out of the source, one at a time, and expects red tests (ARGS="-run name")
	@go run ./internal/testrun faults $(ARGS)

lint: ## formatting, vet, linters, generated SQL, known vulnerabilities
	@unformatted=$$($(call tool,gofumpt) -l $$(git ls-files -co --exclude-standard '*.go' ':!internal/store/db')); \
	  test -z "$$unformatted" || { echo "gofumpt would change:"; echo "$$unformatted"; exit 1; }
	@go vet $(MODULES)
	@$(GOLANGCI) run $(MODULES)
	@if test -f internal/store/sqlc.yaml; then $(call tool,sqlc) diff -f internal/store/sqlc.yaml; fi
	@mkdir -p .postern; $(call tool,govulncheck) $(MODULES) >.postern/govulncheck.log 2>&1 || { \
	  if grep -q 'fetching vulnerabilities' .postern/govulncheck.log; \
	  then echo "The vulnerability database cannot be reached from here; that check was left out."; \
	  else cat .postern/govulncheck.log; exit 1; fi; }

generate: ## write internal/store/db again from its SQL
	@$(call tool,sqlc) generate -f internal/store/sqlc.yaml

fuzz: ## every fuzz test, FUZZTIME each (30s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -rn1 dirname | sort -u | while read -r dir; do \
	  for name in $$(grep -ohE '^func Fuzz\w+' "$$dir"/*_test.go | cut -c6-); do \
	    echo "== $$dir $$name"; \
	    go test "$$dir" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x || exit 1; \
	  done; done

bench: ## what a built server costs, on both databases; writes docs/guide/performance.md (ARGS="-only refresh -db sqlite -c 16")
	@go run ./internal/testrun postgres -fsync -- go run ./bench $(or $(ARGS),-page docs/guide/performance.md)

microbench: ## Go benchmarks, for benchstat; POSTERN_BENCH_MEMBERS=1000000 for the bars of B2B pages, POSTERN_BENCH_DASHBOARD=1 for those of the dashboard
	@go test -run '^$$' -bench . -benchmem $(MODULES)

conformance: ## the official suite, and clients replayed; writes docs/conformance.md and docs/clients-tested.md
	@./conformance/run
	@go test ./examples/e2e -run '^TestClients$$' -count=1 -update

spec: ## the state of ledger and attacks; writes docs/divergences.md and docs/attacks.md
	@go test . -run '^Test(Ledger|Attack)Table$$' -count=1 -v -update | grep -vE '^(===|---|ok|PASS)'

# What a builder may have set for himself, and what the folder is called, must
# not change a byte (docs/decisions/0027).
release: ## binaries for all platforms in dist/, each with a bill of materials (PLATFORMS="linux/amd64")
	@rm -rf dist && mkdir dist
	@export GOWORK=off GOFLAGS=-trimpath GOEXPERIMENT= GOAMD64=v1 GOARM64=v8.0 GOFIPS140=off; \
	for platform in $(PLATFORMS); do \
	  os=$${platform%/*}; arch=$${platform#*/}; end=; test $$os != windows || end=.exe; \
	  echo "postern $(VERSION) $$os $$arch"; \
	  CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch go build -buildvcs=true -ldflags '-s -w' \
	    -o dist/postern_$(VERSION)_$${os}_$$arch$$end ./cmd/postern || exit 1; done
	@GOWORK=off go run ./internal/sbom dist/postern_*
	@cd dist && { sha256sum postern_* 2>/dev/null || shasum -a 256 postern_*; } >checksums.txt

release-check: ## builds the last commit in two folders, once without what is compiled already, and compares every byte
	@d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && \
	  git clone -q . "$$d/one" && git clone -q . "$$d/another/place" && \
	  $(MAKE) -s -C "$$d/one" release PLATFORMS=linux/amd64 && \
	  GOCACHE="$$d/cache" GOAMD64=v3 $(MAKE) -s -C "$$d/another/place" release PLATFORMS=linux/amd64 && \
	  diff -r "$$d/one/dist" "$$d/another/place/dist" && cat "$$d/one/dist/checksums.txt" && echo "the same, byte for byte"
