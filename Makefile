# Ferrule. `make demo` shows what it does, `make test` tests it; both work in a bare checkout.
# The rest of the targets: make help.

GO    ?= go
CC    ?= cc
CARGO ?= cargo
PREFIX ?= /usr/local
SITE = build/site
# What runs tests: `go test`, or a program that takes its arguments.
GOTEST ?= $(GO) test
# What is not done once more for each test binary: vetting, which `make lint` does in full, and tables for debuggers.
LEAN = -vet=off -ldflags=-w
# The tests of twice as many packages at a time as there are processors: they wait for processes and for times more than they work.
WIDE = -p $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2))))
# Two targets at the same time.
TOGETHER = $(MAKE) --jobs=2 $(if $(filter 3.%,$(MAKE_VERSION)),,--output-sync)
export GO GOTEST
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
ACTIONLINT = $(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# The packages of every module in go.work; without the comparison, which has targets of its own and needs Unix; and those of
# the libraries, where what is concurrent lives. internal/modules tests that no target leaves a module out.
MODULES   = $(shell sed -n 's|^	\(\.[^ ]*\)$$|\1|p' go.work)
PACKAGES  = $(MODULES:%=%/...)
TESTED    = $(filter-out ./bench/...,$(PACKAGES))
LIBRARIES = ./abi/... ./loader/... $(filter-out ./... ./cmd/% ./examples/... ./internal/% ./plugins/web/browsertest/...,$(TESTED))

# need PROGRAM, INSTALL: stop with how to get a program that is missing.
need = @command -v $(1) >/dev/null 2>&1 || { echo "make: $(1) is missing: $(2)" >&2; exit 1; }
NEED_GO = $(call need,$(GO),see https://go.dev/dl)
NEED_CC = $(call need,$(CC),apt-get install gcc)
NEED_CARGO = $(call need,$(CARGO),apt-get install cargo or see https://rustup.rs)
HAVE_CARGO = command -v $(CARGO) >/dev/null 2>&1

.PHONY: demo
demo: ## The main job: a C plug-in on a real text, and a Rust one where cargo is
	$(NEED_GO)
	$(NEED_CC)
	@GO="$(GO)" CC="$(CC)" CARGO="$(CARGO)" sh examples/demo.sh

.PHONY: bare
bare: ## The first results without a compiler, in a bare Debian that is made for it: as root, in about two minutes
	$(NEED_GO)
	@sh internal/first/bare.sh

.PHONY: fresh
fresh: ## README's two commands in a clone, in a Debian that has Go, a C compiler and make alone: as root, in some seven minutes; COMMANDS='make demo' are others
	$(NEED_GO)
	@sh internal/first/fresh.sh

.PHONY: test
test: ## The library, isolation and the core system, on this machine
	$(NEED_GO)
	$(NEED_CC)
	$(GOTEST) $(LEAN) $(WIDE) -parallel 4 -timeout 20m -skip $(LONG_ONES) $(QUICK)

# Together with `make test`: all that is quick.
.PHONY: rest
rest: rest-go ## What `make test` leaves out and is quick by itself: calls without cgo, the sandbox, the other engines, the command, the examples, what makes releases, and the SDKs with each of their plug-ins
	+$(TOGETHER) test-without test-c test-rust

# The native engine crosses to C in four ways, and is tested with each: directly or by purego's trampoline, with cgo on or
# off; the trampoline in `make crossings`. Everything else, workers included, is tested once; `make portable`
# does not leave it out.
NATIVE = ./loader ./loader/internal/raw ./loader/internal/native/cross ./loader/internal/native/dl ./loader/internal/native/hostcall ./loader/internal/native
IN_PROCESS = -skip '/^(isolated|in_a_group)$$|//^(isolated|in_a_group)$$|///^(isolated|in_a_group)$$'

# Tests that take long by themselves: guides, READMEs, examples and new plug-ins that are walked through with all that they build;
# programs that are built for other systems; programs that are installed outside the tree; registries and brokers, which are built
# first; every case of `ferrule check` for each fixture; thousands of damaged files; passwords that cost a second on purpose; load.
LONG = TestAPIDiff TestArchive TestAuthorGuide TestBasket TestBrokers TestCarried TestCheckOfLibraries TestDemo TestDigestOfALongFile \
	TestEverywhereAgrees TestEverywhereAsks TestEverywhereGenerated TestEverywhereRefuses TestEverywhereTable TestExamplesPass TestExhibits \
	TestFindElsewhere TestFindInOtherFiles TestFindingsOfAllCases TestFleet TestForMinisign TestGoForms TestGoFormsPass TestGoLeaks TestGoThreads \
	TestIndexOfAnOCIRegistry TestInstall TestLanguagesGo TestLeftOut TestMakeInstall TestManualOfC TestManualOfGo TestManualOfRust TestModulesPass \
	TestMutatedHeaders TestMutatedRandomly TestNewFromNothingToAResult TestNewGo TestNewGoNames TestNewIsTidy TestNewReleases TestNewWasm TestOfMinisign \
	TestPageInChromium TestPageInChromiumOfFaults TestPageInChromiumWithLargeNumbers TestPageInChromiumWithoutNumbers TestPageOfDebugging \
	TestPagesOfTheSystem TestPassword TestPushSignsLater TestPushToOCI TestREADMEs TestReady TestReplaceUnderLoad TestReplacedUnderLoad \
	TestSidecarFindings TestSidecarFull TestSidecarWebFindings TestSiteInChromium TestSiteInChromiumThatIsWrong TestSiteIsOfItsTag TestSlowIsNoHang \
	TestSoak TestSoakFindsLeaks TestSoakFindsWrongAnswers TestStartFromACheckout TestThumbnailFile TestTour TestUnavailable TestUntilThePageIsAnother \
	TestWarningsOfCompilers TestWindows
# The packages that have them: no other is linked for nothing.
LONG_IN = ./cmd/ferrule ./cmd/ferrule/internal/check ./cmd/ferrule/internal/gen ./examples ./examples/everywhere ./internal/release ./internal/soak \
	./loader/inspect ./loader/internal/isolate/mark ./loader/remote ./plugins ./plugins/enginetest/scripttest ./plugins/oci ./plugins/sign ./plugins/web/browsertest
empty =
LONG_ONES = '^($(subst $(empty) $(empty),|,$(strip $(LONG))))$$'

# What every host imports: the loader, isolation and the core system.
QUICK = ./abi/... ./loader ./loader/abspath/... ./loader/builtin/... ./loader/engine/... ./loader/escape/... ./loader/inspect/... \
	./loader/internal/... ./loader/isolate ./plugins/...
# The rest. The folders of the root's module are named: the module's own name would have QUICK in it.
REST = ./include/... ./internal/... ./loader/isolate/sandbox/... ./loader/sidecar/... ./sdk-c/... ./sdk-rust/... $(filter-out ./... ./plugins/...,$(TESTED))

.PHONY: rest-go
rest-go:
	$(NEED_GO)
	$(NEED_CC)
	$(GOTEST) $(LEAN) $(WIDE) -timeout 20m -skip $(LONG_ONES) $(REST)

# It waits more than it works, so it is run beside the other languages' tests.
.PHONY: test-without
test-without:
	$(NEED_GO)
	CGO_ENABLED=0 $(GOTEST) $(LEAN) $(IN_PROCESS) $(NATIVE)

.PHONY: long
long: ## The tests that `make test` and `make rest` leave out because they take long
	$(NEED_GO)
	$(NEED_CC)
	$(GOTEST) $(LEAN) $(WIDE) -timeout 28m -run $(LONG_ONES) $(LONG_IN)

.PHONY: wasm
wasm: ## WebAssembly: the engine's tests, also without cgo, generated modules, and Extism's plug-ins beside Extism's hosts for Go and Python, which are fetched
	$(NEED_GO)
	$(NEED_CARGO)
	$(call need,python3,apt-get install python3 python3-venv)
	[ -x build/extism/bin/python ] || python3 -m venv build/extism
	build/extism/bin/python -c 'import extism' 2>/dev/null || build/extism/bin/pip --quiet install extism==1.1.1 || echo "make: the Python package extism is not to be had"
	CGO_ENABLED=0 $(GOTEST) $(LEAN) ./loader/wasm
	FERRULE_SMITH=1000 $(GOTEST) $(LEAN) -timeout 20m -run '^TestGeneratedModules$$' ./loader/wasm/internal/fuel
	FERRULE_EXTISM=$(CURDIR)/build/extism/bin/python $(GOTEST) $(LEAN) -timeout 20m -run '^TestExtism' ./loader/wasm/internal/extism

.PHONY: sidecar
sidecar: ## Sidecars: ferrule serve under the load of wrk, and ended in the middle of it; a thousand of each kind killed under the calls of 64 goroutines
	$(NEED_GO)
	$(NEED_CC)
	$(call need,wrk,apt-get install wrk)
	FERRULE_LOAD=10 $(GOTEST) $(LEAN) -count=1 -timeout 20m -run '^TestServe(UnderWrk|EndsUnderLoad|Metrics)$$' ./cmd/ferrule
	FERRULE_TEST_KILLS=1000 $(GOTEST) $(LEAN) -count=1 -timeout 20m -run '^TestKilledUnderLoad$$' ./loader/sidecar

NATSCLI = github.com/nats-io/natscli/nats@v0.5.1
.PHONY: broker
broker: ## Plug-ins on nodes beyond one machine: Mosquitto, and NATS's own command and server, which are fetched and built; faults for DURATION (10s) on a quick line and on slow ones; 1,000 nodes
	$(NEED_GO)
	@PATH="$$PATH:/usr/sbin" command -v mosquitto >/dev/null 2>&1 || { echo "make: mosquitto is missing: apt-get install mosquitto" >&2; exit 1; }
	[ -x build/broker/nats ] || GOBIN=$(CURDIR)/build/broker $(GO) install $(NATSCLI) || echo "make: NATS's own command is not to be had"
	$(GO) build -o build/broker/nats-server github.com/nats-io/nats-server/v2
	FERRULE_NATS=$$(ls $(CURDIR)/build/broker/nats 2>/dev/null) FERRULE_NATS_SERVER=$(CURDIR)/build/broker/nats-server FERRULE_TEST_SOAK=$(or $(DURATION),10s) FERRULE_NODES=1000 \
		$(GOTEST) $(LEAN) -v -count=1 -timeout 30m -run '^(TestCommandOfNATS|TestFarNode|TestHeldLine|TestFaults.*|TestManyNodes|TestBrokers)$$/^(NATS|Mosquitto|)$$/^(Faults|)$$' ./loader/remote ./loader/remote/nats

# The Python of whose packages one is tested: a system's own, which can be embedded.
SYSTEM_PYTHON = /usr/bin/python3
build/numpy:
	@[ -x $(SYSTEM_PYTHON)-config ] || { echo "make: $(SYSTEM_PYTHON)-config is missing: apt-get install python3-dev python3-venv" >&2; exit 1; }
	rm -rf $@ && $(SYSTEM_PYTHON) -m venv $@
	$@/bin/python -m pip --quiet install numpy==1.26.4 || { rm -rf $@; exit 1; }

.PHONY: script
script: build/numpy ## Scripts: the adapters built as a host builds them, numpy in a virtual environment, and OPENS (1000) of each kind opened and closed
	$(NEED_GO)
	$(NEED_CC)
	$(NEED_CARGO)
	FERRULE_NUMPY=$(CURDIR)/build/numpy FERRULE_TEST_BUILD=1 FERRULE_TEST_OPENS=$(or $(OPENS),1000) $(GOTEST) $(LEAN) -count=1 -timeout 20m -run '^(TestBuild|TestNumpy|TestOpenedAndClosed)$$' ./loader/script

.PHONY: go-forms
go-forms: ## Plug-ins in Go in their four forms: by a host without cgo, built with the oldest Go that the SDK promises and with the newest, 100 MiB at a time, and OPENS (1000) of each opened and closed
	$(NEED_GO)
	$(NEED_CC)
	CGO_ENABLED=0 $(GOTEST) $(LEAN) -count=1 -run '^(TestForms|TestFaults|TestCollector)$$' ./sdk-go/formstest/forms
	FERRULE_TEST_OPENS=$(or $(OPENS),1000) $(GOTEST) $(LEAN) -count=1 -timeout 20m -run '^(TestVersions|TestLongResults|TestOpenedAndClosed)$$' ./sdk-go/formstest/forms

.PHONY: crossings crossing-cgo crossing-without
crossings: fixtures ## The native engine with the portable crossing, with cgo and without, both at the same time; builds the plug-ins first
	+$(TOGETHER) crossing-cgo crossing-without
crossing-cgo:
	$(GOTEST) $(LEAN) $(IN_PROCESS) -tags ferrule_portable $(NATIVE)
crossing-without:
	CGO_ENABLED=0 $(GOTEST) $(LEAN) $(IN_PROCESS) -tags ferrule_portable $(NATIVE)

.PHONY: test-c
test-c:
	$(NEED_CC)
	$(MAKE) -C sdk-c test

.PHONY: test-rust
test-rust:
	@if $(HAVE_CARGO); then cd sdk-rust && $(CARGO) test --quiet --workspace --all-features; elif [ -n "$$CI" ]; then \
		echo "make: cargo is missing: apt-get install cargo, or see https://rustup.rs" >&2; exit 1; else \
		echo "make: the Rust SDK was not tested: cargo is missing: apt-get install cargo, or see https://rustup.rs"; fi

.PHONY: lint
lint: ## Formatters and linters of all three languages
	$(NEED_GO)
	$(NEED_CARGO)
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "not formatted: $$files" >&2; exit 1; }
	$(GO) vet $(PACKAGES)
	$(GO) vet -tags ferrule_portable $(LIBRARIES)
	$(GO) vet -tags ferrule_stress $(LIBRARIES)
	@$(MAKE) --no-print-directory types
	$(STATICCHECK) $(PACKAGES)
	@sh internal/modules/tidy.sh -diff
	$(ACTIONLINT) .github/workflows/*.yml
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && trap 'exit 130' INT TERM HUP && for new in c 'c --wasm' cpp 'cpp --wasm' rust 'rust --wasm' go 'go --wasm' 'go --sidecar' js python; do \
		$(GO) run ./cmd/ferrule new --lang $$new --name plugin "$$made/$$new" >"$$made/said" && \
		$(ACTIONLINT) "$$made/$$new"/.github/workflows/*.yml || exit 1; done
	for workspace in sdk-rust examples examples/everywhere/extism internal/fixture/rust-abort; do (cd $$workspace && $(CARGO) fmt --check && \
		$(CARGO) clippy --quiet --workspace --all-targets --all-features -- -D warnings) || exit 1; done
	cd sdk-rust && RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --no-deps --workspace --all-features

.PHONY: msrv
msrv: ## The Rust SDK with the oldest compiler it promises, Debian 12's
	cd sdk-rust && ./check-msrv.sh

.PHONY: crate-package
crate-package: ## The Rust SDK's two packages as the registry gets them, and a plug-in built from them
	$(NEED_CARGO)
	cd sdk-rust && ./check-package.sh

# What tests modules together races no more than each of them by itself; and thousands of files through a parser, one after the other, are one goroutine.
RACING = $(filter-out ./plugins/enginetest/... ./sdk-go/formstest/...,$(LIBRARIES))
RACELESS = TestDylibVariants|TestMutatedHeaders|TestMutatedRandomly|TestRealModules

.PHONY: race
race: ## The race detector, in a random order
	$(GOTEST) $(LEAN) $(WIDE) -race -shuffle=on -count=1 -timeout 20m -skip '^($(RACELESS))$$' $(RACING)

.PHONY: portable
portable: ## The portable crossing, with cgo and without, workers included
	$(GOTEST) $(LEAN) -tags ferrule_portable ./loader/...
	CGO_ENABLED=0 $(GOTEST) $(LEAN) -tags ferrule_portable ./loader/...

.PHONY: stress
stress: ## Garbage collections and stack moves at each crossing; a thousand killed workers; killed stores; long payloads. DURATION=1h: for so long
	@DURATION="$(DURATION)" sh internal/soak/soak.sh stress

.PHONY: large
large: ## 4 GiB through the example digest, in constant memory, for a minute
	$(NEED_GO)
	$(NEED_CC)
	FERRULE_LARGE=4096 $(GO) test -count=1 -v -run TestDigestOfALongFile ./examples

.PHONY: fuzz
fuzz: ## Every fuzz target in turn, with more executions each time, for DURATION (3m)
	@DURATION="$(or $(DURATION),3m)" sh internal/soak/soak.sh fuzz

.PHONY: rounds
rounds: ## Stress and fuzz in turn, over and over, for DURATION (1h)
	@DURATION="$(or $(DURATION),1h)" sh internal/soak/soak.sh rounds

.PHONY: soak
soak: ## One run of a system with fourteen plug-ins over all engines, disturbed all the time, for DURATION (1h): SEED=number repeats one, PAGE=docs/soak.md writes its summary there
	$(NEED_GO)
	$(NEED_CC)
	$(NEED_CARGO)
	$(if $(PAGE),@[ -f '$(PAGE)' ] || { echo "make: found no page $(PAGE): expected one that is there - docs/soak.md" >&2; exit 1; })
	FERRULE_SOAK='$(or $(DURATION),1h)' FERRULE_SEED='$(SEED)' FERRULE_SOAK_PAGE="$(if $(PAGE),$$(realpath -- '$(PAGE)'))" $(GO) test $(LEAN) -count=1 -v -timeout 0 -run '^TestSoak$$' ./internal/soak

.PHONY: flakes
flakes: fixtures ## The tests of PKG (all) ROUNDS (20) times in a random order, JOBS (2) packages at a time, beside BUSY (2) processes that take processors: which failed, and how often
	@PKG='$(or $(PKG),$(TESTED))' ROUNDS='$(ROUNDS)' BUSY='$(BUSY)' JOBS='$(JOBS)' SKIP=$(LONG_ONES) GO='$(GO)' sh internal/soak/flakes.sh

.PHONY: fixtures
fixtures: ## The plug-ins that the tests load, so that no test has to wait for a compiler
	$(NEED_GO)
	@$(GO) run ./internal/fixture/build

PLATFORMS = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
.PHONY: cross
cross: ## Builds and vets, tests included, for every platform
	@for p in $(PLATFORMS); do for tags in "" ferrule_portable; do \
		echo "$$p $$tags"; \
		case $$p$$tags in windows/* | *portable) packages="$(TESTED)" ;; *) packages="$(PACKAGES)" ;; esac; \
		GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 $(GO) build -tags "$$tags" $$packages || exit 1; \
		GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 $(GO) vet -tags "$$tags" $$packages || exit 1; \
	done; done

.PHONY: compilers
compilers: ## The headers and the SDKs with every compiler at hand, for minutes
	$(MAKE) -C sdk-c compilers

.PHONY: platforms
platforms: ## The tests on every other platform that a Debian machine can be made to have; installs what it needs
	$(NEED_GO)
	$(GO) run ./internal/platforms $(if $(ONLY),-only '$(ONLY)') $(if $(QUICK),-quick)

.PHONY: types
types: ## That all of it, tests included, is Go that every other platform takes: no compiler, a minute
	$(GO) run ./internal/platforms -types

.PHONY: platforms-update
platforms-update: ## The same, and writes docs/platforms.md
	$(NEED_GO)
	$(GO) run ./internal/platforms -update

.PHONY: corpus
corpus: ## The reader of libraries against LIEF, on more than a thousand real ones of 19 platforms: downloads some 500 MB into build/corpus, once
	$(NEED_GO)
	$(call need,python3,apt-get install python3 python3-venv)
	$(call need,npm,apt-get install npm)
	$(call need,apt-get,it is there on Debian only)
	$(GO) run ./internal/corpus

.PHONY: bench
bench: ## Ferrule beside every peer, as payloads and callers grow, WebAssembly, sidecars, and scripts, in some minutes: writes bench/RESULTS.md and its three pictures
	$(NEED_GO)
	$(NEED_CC)
	$(NEED_CARGO)
	$(call need,python3,apt-get install python3)
	cd bench && $(GO) run .

.PHONY: bench-streams
bench-streams: ## Streams beside gRPC's, in one run of a minute: writes bench/STREAMS.md
	$(NEED_GO)
	$(NEED_CC)
	cd bench && $(GO) run . -part streams

.PHONY: bench-quick
bench-quick: ## The same in less than two minutes, without writing anything
	$(NEED_GO)
	$(NEED_CC)
	$(NEED_CARGO)
	$(call need,python3,apt-get install python3)
	cd bench && $(GO) run . -quick

.PHONY: bench-compare
bench-compare: ## The hot path's benchmarks in BASE=rev and in this tree as it is, in turns, in benchstat's table; or of PKG, BENCH, COUNT, BENCHTIME
	$(NEED_GO)
	$(NEED_CC)
	$(call need,git,apt-get install git)
	cd bench && $(GO) run ./compare -base '$(BASE)' -pkg '$(or $(PKG),./loader ./loader/isolate)' \
		-bench '$(or $(BENCH),^Benchmark(Append|AppendSerial|AppendParallel|Call|HostFunc|Batch)$$)' -count $(or $(COUNT),10) -benchtime '$(BENCHTIME)'

.PHONY: bench-test
bench-test: ## That every contender of the comparison does the same work
	$(GOTEST) $(LEAN) -timeout 30m ./bench/...

.PHONY: fleet
fleet: ## HOSTS (500) hosts, each a process, with 20 plug-ins against one registry: what they ask it and its mirrors for, for minutes
	$(NEED_GO)
	$(NEED_CC)
	FERRULE_FLEET=$(or $(HOSTS),500) $(GOTEST) -count=1 -v -timeout 1h -run '^TestFleet$$' ./plugins/oci

.PHONY: many
many: ## PLUGINS (10,000) plug-ins open in one process, and WORKERS (1,000) isolated ones: what each costs, and where it ends
	$(NEED_GO)
	$(NEED_CC)
	FERRULE_MANY=$(or $(PLUGINS),10000) $(GOTEST) -count=1 -v -timeout 30m -run '^TestManyPlugins$$' ./loader
	FERRULE_MANY_WORKERS=$(or $(WORKERS),1000) $(GOTEST) -count=1 -v -timeout 30m -run '^TestManyWorkers$$' ./loader/isolate

.PHONY: release
release: ## Rehearses a release of the last commit into build/release, for some minutes, or makes one: VERSION, KEY (of minisign), ONLY='linux/amd64'
	$(NEED_GO)
	$(call need,git,apt-get install git)
	$(GO) run ./internal/release -version '$(VERSION)' -key '$(KEY)' $(if $(ONLY),-platforms '$(ONLY)')

DIST = build/release/dist
.PHONY: attach
attach: ## Publishes the release VERSION on GitHub, once its tags are pushed, with the files that make release has made of it: by gh
	$(call need,gh,see https://cli.github.com)
	@grep -qxF 'trusted comment: ferrule release $(VERSION) SHA256SUMS' $(DIST)/SHA256SUMS.minisig 2>/dev/null || { \
		echo "make: found no release '$(VERSION)' in $(DIST), expected one, and no rehearsal: make release VERSION=v1.2.3 KEY=FILE, then make attach VERSION=v1.2.3" >&2; exit 1; }
	@cd $(DIST) && sha256sum --check --quiet SHA256SUMS
	gh release create '$(VERSION)' --verify-tag --title '$(VERSION)' \
		--notes 'What is new: [CHANGELOG.md](https://github.com/ferrule-dev/ferrule/blob/$(VERSION)/CHANGELOG.md). How to verify the files: [docs/releases.md](https://github.com/ferrule-dev/ferrule/blob/$(VERSION)/docs/releases.md).' $(DIST)/*

# The generator of the site. Without Sphinx's cache each build warns of all that is wrong, and fails.
build/sphinx: docs/site/requirements.txt
	$(call need,python3,apt-get install python3 python3-venv)
	rm -rf $@ && python3 -m venv $@
	$@/bin/python -m pip --quiet --disable-pip-version-check install -r $< && touch $@ || { rm -rf $@; exit 1; }

.PHONY: site
site: build/sphinx ## The documentation as a site, in SITE (build/site), by Sphinx, which is fetched once
	@[ ! -e '$(SITE)' ] || [ -e '$(SITE)/.buildinfo' ] || { echo "make: found $(SITE), which is no site, expected one or nothing: name another folder" >&2; exit 1; }
	rm -rf '$(SITE)'
	@build/sphinx/bin/sphinx-build -b html -c docs/site -d build/sphinx/pages -E -n -W --keep-going -q -j auto . '$(SITE)'
	@echo "to look at it: python3 -m http.server --bind 127.0.0.1 --directory '$(SITE)'"

.PHONY: site-pages
site-pages: build/sphinx ## Each page of the site in Chromium, both wide in light colours and narrow in dark ones; make long looks at each in one of the two ways
	$(NEED_GO)
	FERRULE_SITE=1 $(GOTEST) $(LEAN) -count=1 -timeout 20m -run '^TestSiteInChromium$$' ./plugins/web/browsertest

.PHONY: apidiff
apidiff: ## Public names of all Go modules beside those of the last release's tag, or of BASE=rev: fails where one is gone, or another one; in about a minute
	$(NEED_GO)
	$(call need,git,apt-get install git)
	$(GO) run ./internal/release -base '$(BASE)' apidiff

.PHONY: semver-checks
semver-checks: ## Likewise of the Rust SDK's crate, by cargo-semver-checks
	$(NEED_GO)
	$(NEED_CARGO)
	$(call need,git,apt-get install git)
	$(GO) run ./internal/release -base '$(BASE)' semver-checks

.PHONY: check
check: lint crate-package test long compilers bench-test race portable stress cross ## Everything but fuzzing and other systems; leaves a clean tree
	@[ -z "$$(git status --porcelain)" ] || { echo "make: not committed, or left behind:" >&2; git status --short >&2; exit 1; }

.PHONY: tidy
tidy: ## go mod tidy for every module
	$(NEED_GO)
	@sh internal/modules/tidy.sh

# What is installed beside the SDK: made here in the folders in which it is installed, and so known to both targets below.
# The command prints its completions and writes its manual pages itself. Whoever installs may be another user, without Go:
# then what is made already is installed.
COMMAND = build/command
BASH = share/bash-completion/completions/ferrule
ZSH = share/zsh/site-functions/_ferrule
FISH = share/fish/vendor_completions.d/ferrule.fish
PAGES = $(patsubst docs/%.md,share/man/man1/%.1,$(wildcard docs/ferrule*.md))
INSTALLED = bin/ferrule $(BASH) $(ZSH) $(FISH) $(PAGES)
TO = $(DESTDIR)$(PREFIX)
OWN = $(if $(filter /usr /usr/local,$(TO)),bin include share share/man) # the system's own folders, which stay when they are empty

.PHONY: command
command: ## The command ferrule with its manual pages and completions, in build/command
	@if command -v $(GO) >/dev/null 2>&1; then $(GO) build -o $(COMMAND)/bin/ferrule ./cmd/ferrule; \
		elif [ ! -x $(COMMAND)/bin/ferrule ]; then \
		echo "make: $(GO) is missing: see https://go.dev/dl, or run make command as a user who has it" >&2; exit 1; fi
	@mkdir -p $(sort $(dir $(INSTALLED:%=$(COMMAND)/%)))
	@$(COMMAND)/bin/ferrule man $(COMMAND)/share/man/man1
	@for it in bash/$(BASH) zsh/$(ZSH) fish/$(FISH); do \
		$(COMMAND)/bin/ferrule completion $${it%%/*} >$(COMMAND)/$${it#*/} || exit 1; done

.PHONY: install
install: command ## The command with manual pages and completions, the header and the C SDK: DESTDIR, PREFIX
	install -d $(foreach folder,$(sort $(dir $(INSTALLED))),"$(TO)/$(folder)")
	install -m 755 $(COMMAND)/bin/ferrule "$(TO)/bin/"
	@for file in $(filter-out bin/%,$(INSTALLED)); do install -m 644 "$(COMMAND)/$$file" "$(TO)/$$file" || exit 1; done
	$(MAKE) -C sdk-c install PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)"

.PHONY: uninstall
uninstall: ## Removes what make install puts there, with the same DESTDIR and PREFIX
	rm -f $(foreach file,$(INSTALLED),"$(TO)/$(file)")
	$(MAKE) -C sdk-c uninstall PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)"
	@for folder in $(patsubst %/,%,$(sort $(dir $(INSTALLED)))) include; do \
		while case " . $(OWN) " in *" $$folder "*) false;; esac && rmdir "$(TO)/$$folder" 2>/dev/null; do \
		folder=$$(dirname "$$folder"); done; done # empty ones, and those around them

.PHONY: clean
clean:
	rm -rf build sdk-rust/target examples/target examples/everywhere/extism/target bench/build

.PHONY: help
help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST)
