# The front door. `make help` lists what there is.
BUILD ?= build
PREFIX ?= /usr/local
PROMPT ?= a red ball moves to the right on grass
TEST_ARGS ?=
PEERS_ARGS ?=
FAULTS_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test configure build deps install bench bench-peers check faults fuzz clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what is missing (Debian packages, LibTorch)
	@deps/install.sh

configure: deps
	@cmake -G Ninja -B "$(BUILD)" -DCMAKE_BUILD_TYPE=Release $(if $(KINORA_DEPS),-DKINORA_DEPS="$(KINORA_DEPS)") \
	  >"$(BUILD).log" 2>&1 || { cat "$(BUILD).log"; exit 1; }
	@rm -f "$(BUILD).log"

build: configure ## compile the program: build/kinora
	@cmake --build "$(BUILD)" --target kinora

demo: build ## make a clip from a prompt with the built-in model: demo.mp4
	"$(BUILD)/kinora" generate "$(PROMPT)" --output demo.mp4
	@echo "demo: wrote demo.mp4"

test: configure ## build and run every test
	@cmake --build "$(BUILD)"
	@ctest --test-dir "$(BUILD)" --parallel $$(nproc) --output-on-failure --no-tests=error $(TEST_ARGS)

install: configure ## install under PREFIX (/usr/local), for this machine: LibTorch stays in .deps
	@cmake --build "$(BUILD)" --target kinora kinora_shared
	@cmake --install "$(BUILD)" --prefix "$(PREFIX)"

bench: build ## measure: machine, operators, models
	@bench/run "$(BUILD)"

bench-peers: build ## install public systems into .peers and time them beside Kinora
	@bench/peers/install
	@bench/peers/run "$(BUILD)" $(if $(VIDEOSYS),--videosys "$(VIDEOSYS)") $(PEERS_ARGS)

check: ## what reviews would repeat: format, include rules, ASCII, forbidden calls
	@tools/check

faults: configure ## kill, stop and confuse ranks: each fault 10 times with 2, 4 and 8 ranks
	@cmake --build "$(BUILD)" --target kinora steps_on_ranks
	@python3 tests/faults.py "$(BUILD)/kinora" "$(BUILD)/tests/steps_on_ranks" $(FAULTS_ARGS)

fuzz: deps ## fuzz the file readers under sanitizers (clang)
	@tools/fuzz

clean: ## remove the build
	@rm -rf "$(BUILD)"
