# Pillarbox: `make run` serves, `make test` proves. See README.md.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOL    := $(GO) tool -modfile=tools/go.mod
PKGS    := ./...

# Crash simulation and kill loop: how much of it.
SEEDS    ?= 1000
FUZZTIME ?= 20s
BENCH    ?= .

.PHONY: all build run test check race crash drill mutants kill killbackup soak cold backupbench memory fuzz bench enginebench mailbench clean

all: build

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/pillarbox ./cmd/eseutil

run: build
	exec bin/pillarbox quickstart

test:
	$(GO) test -timeout 20m $(PKGS)

# The linters are pinned in tools/go.mod; nothing is installed.
check:
	@out=$$($(TOOL) gofumpt -l .) && test -z "$$out" || { echo "gofumpt: $$out"; exit 1; }
	$(GO) vet $(PKGS)
	GOOS=darwin $(GO) vet $(PKGS)
	GOOS=windows $(GO) vet $(PKGS)
	$(TOOL) staticcheck $(PKGS)
	$(TOOL) nilness $(PKGS)
	$(TOOL) errcheck -exclude tools/errcheck.txt $(PKGS)
	@out=$$($(TOOL) deadcode -test $(PKGS)) && test -z "$$out" || { echo "deadcode: $$out"; exit 1; }

# RACE: the packages, RACE_RUN: the tests of them.
RACE     ?= $(PKGS)
RACE_RUN ?= .
race:
	$(GO) test -race -timeout 60m -run '$(RACE_RUN)' $(RACE)

# Power cuts on the simulated disk, SEEDS of them in each of engine, store and transport.
crash:
	$(GO) test -count=1 -timeout 4h -run Crash ./ese ./store/crashtest ./transport -seeds $(SEEDS)

# Databases damaged by seed and repaired: each row saved or named as lost. The power cut CUTS times
# in repair and as often in defragmentation: the old database or the new one.
CASES ?= 1000
CUTS  ?= 200
drill:
	$(GO) test -count=1 -timeout 4h -v -run 'Drill|Crash' ./ese/offline -args -cases $(CASES) -cuts $(CUTS)

# Known bugs planted in a copy of the engine: the simulation must find each.
mutants:
	$(GO) test -count=1 -timeout 3h -v ./test/mutants -args -plant

# kill -9 under load, ROUNDS times, with every acknowledged message asked for afterwards.
ROUNDS ?= 200
kill:
	$(GO) test -count=1 -timeout 2h -v -run TestKill ./test/kill -args -rounds $(ROUNDS)

# kill -9 of backups and restores, POINTS times: the old state or the new one, never neither.
POINTS ?= 100
killbackup:
	$(GO) test -count=1 -timeout 2h -v -run TestKillBackup ./test/kill -args -points $(POINTS)

# The engine under mixed load on the real disk, killed every few seconds, for SOAK.
SOAK ?= 1h
soak:
	$(GO) test -count=1 -timeout 24h -v ./test/soak -args -soak $(SOAK)

# What the engine takes to open a database of COLD_GB after kill -9, and to read streams, with
# nothing in memory; as root. It needs three times the space.
COLD_GB ?= 10
cold:
	$(GO) test -count=1 -timeout 3h -v ./test/cold -args -gb $(COLD_GB)

# What backup and restore cost beside delivery and dd, with a store of BACKUP_GB.
BACKUP_GB ?= 3
backupbench:
	$(GO) test -count=1 -timeout 2h -v ./test/backupbench -args -gb $(BACKUP_GB)

# Messages of 200 MiB, fifty of 50 MiB at once, a thousand idle connections.
memory:
	$(GO) test -count=1 -timeout 10m -run Memory ./test/interop -memory -v

# Each fuzz target of each package for FUZZTIME. The fuzzer itself fails now and then when its
# time is over ("context deadline exceeded"); an input that it found fails the second time too.
fuzz:
	@set -e; for pkg in $$($(GO) list $(PKGS)); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			run() { $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; }; \
			run || run; \
		done; done

bench:
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(PKGS)

# The harnesses live outside of this repository; the adapters are in test/bench.
enginebench:
	test/bench/engine.sh

mailbench: build
	test/bench/mail.sh

clean:
	rm -rf bin
