# What a developer, a user of the checkout and the continuous integration call. `make help` lists it.
# On a fresh Debian 12 with Python 3.11 and Go every target installs what it lacks: Debian's packages through
# mk/packages, Python's into .venv through mk/venv. Both cost milliseconds when there is nothing to do.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Debian packages, one list for each purpose.
PACKAGES_CHECK := git openssh-client python3-venv shellcheck
PACKAGES_LAB := $(PACKAGES_CHECK) ca-certificates curl docker.io gcc iproute2 iptables libc6-dev mmdebstrap openssh-server
PACKAGES_BENCH := skopeo

# The parts of `make check`, in the order of what fails first for the least time.
CHECKS := lint shell types go unit playbooks docs
# What `make test` runs after them.
TESTS := sanity parity lab test-lifecycle site test-lab molecule

BIN := .venv/bin
PYTHON_BIN := $(BIN)/python
LINK := build/ansible_collections/lumen/airgap

export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/build
# Go's own place comes last, for a login that does not have it in PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH):/usr/local/go/bin
export PYTHONUNBUFFERED := 1

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- what every target stands on ---------------------------------------------------------------------------------

.PHONY: venv link tools lab-tools
venv: ## .venv from the pinned requirements
	@mk/packages $(PACKAGES_CHECK)
	@mk/venv

# Plays and pytest find the collection through this link; it must be there under every clone's own path.
link:
	@[[ "$$(readlink $(LINK))" == "$(CURDIR)" ]] || { mkdir -p $(dir $(LINK)) && ln -sfn "$(CURDIR)" $(LINK); }

tools: venv link ## what plays of the checkout need: .venv, and the link to the collection

lab-tools: tools
	@mk/packages $(PACKAGES_LAB)

# --- checks without the lab --------------------------------------------------------------------------------------

.PHONY: check format lint shell types go unit playbooks docs sanity parity parity-argo
check: tools ## static checks and unit tests; no lab
	@mk/sections $(CHECKS)

format: tools ## let ruff and gofmt rewrite what they can
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format
	mk/files '*.go' | xargs -0 --no-run-if-empty gofmt -w

lint: tools
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# Every file that says it is a shell script, by its name or by its first line.
shell: tools
	@mk/files | xargs -0 awk 'FNR == 1 && (/^#!.*sh( |$$)/ || FILENAME ~ /\.sh$$/) { printf "%s%c", FILENAME, 0 } { nextfile }' \
		| xargs -0 --no-run-if-empty shellcheck

types: tools
	$(BIN)/mypy

# Programs of our own: a go.mod with Go files beside it (lab/build has go.mod files of other people's programs alone).
go: tools
	@unformatted=$$(mk/files '*.go' | xargs -0 --no-run-if-empty gofmt -l); \
	[[ -z "$$unformatted" ]] || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	@mk/files '*go.mod' | while read -rd '' module; do \
		directory=$$(dirname "$$module"); compgen -G "$$directory/*.go" >/dev/null || continue; \
		echo "go vet and test: $$directory"; (cd "$$directory" && go vet ./... && go test ./...); \
	done

unit: tools
	$(BIN)/pytest tests/unit --numprocesses=auto

playbooks: tools
	$(BIN)/ansible-lint --offline

docs: tools
	$(BIN)/antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=self .
	$(BIN)/antsibull-changelog lint

sanity: tools ## ansible-test sanity, without Docker
	@mk/sanity

parity: tools ## what must equal Argo's own arithmetic
	$(BIN)/pytest tests/parity

# Argo's code at the lab's pins, built with the lab's flags: what `make lab` has compiled is not compiled again.
ORACLE := build/oracle
SEED := 1
.PHONY: oracle
oracle:
	@mkdir -p $(ORACLE) && rm -f $(ORACLE)/*.go
	@cp lab/build/argo-rollouts/go.mod lab/build/argo-rollouts/go.sum tests/parity/oracle/* $(ORACLE)
	cd $(ORACLE) && CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false' \
		go build -trimpath -o oracle .

parity-argo: tools oracle ## thousands of random cases against Argo's own code (SEED=1)
	$(PYTHON_BIN) tests/parity/compare.py --seed $(SEED)

# Cyclonus' matcher of NetworkPolicies, which ours is compared with and measured against.
CYCLONUS := build/cyclonus
.PHONY: cyclonus parity-cyclonus
cyclonus:
	@mkdir -p $(CYCLONUS) && cp tests/parity/cyclonus/main.go $(CYCLONUS)
	@cp tests/parity/cyclonus/cyclonus.mod $(CYCLONUS)/go.mod && cp tests/parity/cyclonus/cyclonus.sum $(CYCLONUS)/go.sum
	cd $(CYCLONUS) && CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false' \
		go build -trimpath -o cyclonus .

parity-cyclonus: tools cyclonus ## thousands of random NetworkPolicies against cyclonus' matcher (SEED=1)
	$(PYTHON_BIN) tests/parity/compare_policies.py --seed $(SEED)

# --- the lab -----------------------------------------------------------------------------------------------------

.PHONY: lab-nodes lab site lab-status lab-down test-lifecycle test-lab molecule demo
lab-nodes: lab-tools ## Docker, the internal network and the two node containers
	@$(PYTHON_BIN) lab/lab.py nodes

lab: lab-tools ## the airgapped cluster; seconds when it is up already
	@$(PYTHON_BIN) lab/lab.py up

site: tools ## everything that site.yml makes, on the lab
	$(BIN)/ansible-playbook -i inventories/lab site.yml

lab-status: tools ## nodes, pods and URLs of the lab on one screen
	@$(PYTHON_BIN) lab/lab.py status

lab-down: tools ## remove the lab, all but the build cache
	@$(PYTHON_BIN) lab/lab.py down

# Builds the lab anew in between, so that it comes before what site.yml makes.
LIFECYCLE := tests/lab/test_lifecycle.py
test-lifecycle: tools
	$(BIN)/pytest $(LIFECYCLE)

test-lab: tools
	@mk/test-lab

# What has to do with the platform of the lab itself, one after the other; the rest goes on beside it.
molecule: tools ## the scenarios, on a lab that is up
	@mk/molecule act_runner argo network_policies release

# What moves the pods: rollout, or deployment for an app without a controller.
DRIVER ?= rollout
demo: lab ## a good release that is promoted and a bad one that is rolled back
	@$(PYTHON_BIN) lab/demo.py --driver=$(DRIVER)

# --- everything --------------------------------------------------------------------------------------------------

.PHONY: test bench
test: tools ## every test there is; what the continuous integration calls
	@mk/sections $(CHECKS) $(TESTS)

bench: tools cyclonus oracle ## the benchmarks and their limits
	@mk/packages $(PACKAGES_BENCH)
	$(PYTHON_BIN) tests/bench/run.py
