# bootmend: "make" builds the program with its boot bundle, "make media" also an ISO, "make test" tests all.

SHELL   := /bin/bash
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
# The same inputs give the same bytes: media are dated by the commit unless told otherwise.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1721365740)
export CGO_ENABLED := 0

GOFLAGS_BUILD := -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$(VERSION)"
EMBEDDED      := assets/embedded
BUNDLE_FILE   := $(EMBEDDED)/bundle.zip
AGENT_FILE    := $(EMBEDDED)/mend-linux-amd64.cpio.zst
WINDOWS_AGENT := $(EMBEDDED)/mend-windows-amd64.exe.zst
LICENCES      := $(EMBEDDED)/licences.txt
GO_FILES      := $(shell git ls-files -co --exclude-standard '*.go' 2>/dev/null) go.mod
LINT_VERSION  := v2.15.0
TARGETS       := linux/amd64 linux/arm64 windows/amd64 darwin/arm64

# What the tests check our output with, and what the benchmarks measure it against.
TEST_PACKAGES := qemu-system-x86 ovmf dislocker cryptsetup-bin ntfs-3g xorriso mtools dosfstools gdisk fdisk busybox-static time xz-utils zstd bmap-tools tmux e2fsprogs gcc libc6-dev libhivex-bin libwin-hivex-perl age \
  wimtools p7zip-full slapd krb5-kdc krb5-admin-server krb5-user libsasl2-modules-gssapi-mit zbar-tools wine64 gcc-mingw-w64-x86-64-win32 exfatprogs librsvg2-bin minisign \
  dnsmasq-base nginx-light ipxe-qemu isc-dhcp-server kea-dhcp4-server tftp-hpa curl iproute2 genisoimage udftools postgresql chromium

.PHONY: all
all: dist/bootmend ## build dist/bootmend with its boot bundle (the default)

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

dist/bootmend: $(GO_FILES) $(BUNDLE_FILE) $(AGENT_FILE) $(WINDOWS_AGENT) $(LICENCES) $(wildcard assets/rules/*.yaml) assets/grub.cfg
	$(GO) build $(GOFLAGS_BUILD) -o $@ ./cmd/bootmend

.PHONY: media
media: dist/bootmend.iso ## build dist/bootmend and dist/bootmend.iso

dist/bootmend.iso: dist/bootmend
	dist/bootmend build iso -o $@

# The boot bundle: fetched from the distribution with its own package manager, or made elsewhere
# ("make BUNDLE=path") on a machine that has none.
.PHONY: bundle
bundle: $(BUNDLE_FILE) ## fetch the signed boot files and pack the boot bundle

ifdef BUNDLE
$(BUNDLE_FILE): $(BUNDLE)
	$(GO) run ./assets/mkbundle check -o $@ $(BUNDLE)
else
$(BUNDLE_FILE): assets/modules.list $(filter assets/bundle/% assets/mkbundle/% image/initramfs/%,$(GO_FILES))
	$(GO) run ./assets/mkbundle bundle -o $@
endif

$(AGENT_FILE): $(GO_FILES)
	@mkdir -p .cache
	GOOS=linux GOARCH=amd64 $(GO) build $(GOFLAGS_BUILD) -o .cache/mend ./cmd/mend
	$(GO) run ./assets/mkbundle agent -o $@ .cache/mend

$(WINDOWS_AGENT): $(GO_FILES)
	@mkdir -p .cache
	GOOS=windows GOARCH=amd64 $(GO) build $(GOFLAGS_BUILD) -o .cache/mend.exe ./cmd/mend
	$(GO) run ./assets/mkbundle pack -o $@ .cache/mend.exe

$(LICENCES): go.mod go.sum $(wildcard assets/mkbundle/*.go)
	$(GO) run ./assets/mkbundle licences -o $@ -targets "$(TARGETS)" ./cmd/bootmend ./cmd/mend

.PHONY: test
test: tools lint cross all ## run every check and test, boot tests included
	CGO_ENABLED=1 $(GO) test -race -short ./...
	$(GO) test -timeout 55m ./...

.PHONY: test-short
test-short: ## run the tests that take less than a minute
	$(GO) test -short ./...

.PHONY: lint
lint: ## check formatting, go vet and golangci-lint
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	@[ -x .cache/bin/golangci-lint-$(LINT_VERSION) ] || { mkdir -p .cache/bin && \
	  GOBIN=$(CURDIR)/.cache/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION) && \
	  mv .cache/bin/golangci-lint .cache/bin/golangci-lint-$(LINT_VERSION); }
	.cache/bin/golangci-lint-$(LINT_VERSION) run ./...

.PHONY: cross
cross: ## compile for every supported system
	@for target in $(TARGETS); do \
	  echo "compile for $$target"; \
	  GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) build -o /dev/null ./cmd/bootmend && \
	  GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) vet ./... || exit 1; \
	done

.PHONY: bench
bench: tools all ## print the figures, each beside its peer in the same run
	$(GO) test -run '^$$' -bench . -benchtime 3x ./bitlocker/... ./image/... ./winpe/... ./cmd/bootmend
	BOOTMEND_BENCH=1 $(GO) test -count=1 -run "TestReport(WinPE)?Figures" -v ./cmd/bootmend
	BOOTMEND_BENCH=1 $(GO) test -count=1 -run TestFigures -v ./cmd/bootmend/control
	BOOTMEND_BENCH=1 $(GO) test -count=1 -timeout 20m -run TestFigures -v ./bitlocker/fvetest
	BOOTMEND_BENCH=1 $(GO) test -count=1 -timeout 60m -run TestFigures -v ./cmd/bootmend/boottest

# Installs what is missing, as root or through sudo.
.PHONY: tools
tools:
	@missing=""; for p in $(TEST_PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  echo "installing$$missing"; \
	  $$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	fi

.PHONY: clean
clean: ## remove what was built; the downloads stay in .cache
	rm -rf dist $(BUNDLE_FILE) $(AGENT_FILE) $(WINDOWS_AGENT)
