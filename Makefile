# Thin front of the CMake build.  `make help` lists what there is.

PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PRESETS = debug asan ubsan tsan coverage release-clang
RELEASE = build/release
MAKEFLAGS += --no-print-directory

.PHONY: all release $(PRESETS) test demo check bench soak fuzz aarch64 install format clean help

all: release

release:
	@tools/setup.sh build
	@cmake --preset release
	@cmake --build --preset release -j$(JOBS)

# One build with its tests, for instance `make asan`.
$(PRESETS):
	@tools/check.sh $@

test:
	@tools/check.sh release

demo: release
	@tools/setup.sh demo
	@tools/demo.sh $(RELEASE)

check:
	@tools/check.sh

bench:
	@tools/setup.sh bench
	@$(MAKE) release
	@cmake --build --preset release -j$(JOBS) --target run_bench

# The stress and model tests over and over, each round with a new seed: `make soak MINUTES=60`.
soak: release
	@tools/setup.sh check
	@cmake --preset release >/dev/null
	@cmake --build --preset release -j$(JOBS) --target tests
	@tools/soak.sh $(RELEASE) $(or $(MINUTES),10)

# The fuzz targets, MINUTES=10 shared among them; corpus and build in build/fuzz/.
fuzz:
	@tools/setup.sh fuzz
	@tools/fuzz.sh $(or $(MINUTES),10)

# The same library and tests for another processor, under emulation.
aarch64:
	@tools/aarch64.sh

install:
	@cmake --preset release "-DCMAKE_INSTALL_PREFIX=$$(realpath -ms -- "$(PREFIX)")"
	@cmake --build --preset release -j$(JOBS)
	@cmake --install $(RELEASE)

format:
	@tools/check_format.sh --fix

clean:
	@rm -rf build

help:
	@echo "make            library, drop-in and command line into $(RELEASE)/"
	@echo "make check      every build and every test; what continuous integration runs"
	@echo "make test       the tests of the release build alone"
	@echo "make $(PRESETS)"
	@echo "                one of the other builds, with its tests"
	@echo "make demo       a real program on the stock collector and on midden, side by side"
	@echo "make bench      the benchmarks"
	@echo "make soak       stress tests for MINUTES=10"
	@echo "make fuzz       fuzz targets for MINUTES=10"
	@echo "make aarch64    builds for 64-bit ARM, and tests that under qemu"
	@echo "make install    into PREFIX=$(PREFIX), below DESTDIR"
	@echo "make format     clang-format over the tree"
	@echo "make clean      removes build/"
