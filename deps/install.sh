#!/usr/bin/env bash
# Installs what Kinora needs and is not there yet: Debian packages (deps/apt.txt) and LibTorch (deps/wheels.txt, into .deps).
# Says what it does and why. Without root it works as long as the packages are there already.
set -euo pipefail
cd "$(dirname "$0")/.."
deps=${KINORA_DEPS:-.deps}

say() { printf 'deps: %s\n' "$*" >&2; }
fail() { say "$*"; exit 69; }

packages() { sed 's/#.*//' deps/apt.txt | awk 'NF { print $1 }'; }
missing=()
if command -v dpkg-query >/dev/null; then
  for package in $(packages); do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
else
  say "not a Debian system (no dpkg-query): have what deps/apt.txt lists under your system's names; CMake will name what it does not find"
fi
if [[ ${#missing[@]} -gt 0 ]]; then
  say "Debian packages to install: ${missing[*]} (deps/apt.txt says what each is for)"
  as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || fail "not root and no sudo; ask an administrator for: apt-get install ${missing[*]}"
    as_root=(sudo env DEBIAN_FRONTEND=noninteractive)  # sudo drops it, and a question would wait unseen for ever
  fi
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq || fail "apt-get update failed; is the network there?"
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || fail "apt-get could not install: ${missing[*]}"
fi

# The stamp names the pinned list, so that a changed pin installs again.
stamp=$(sha256sum deps/wheels.txt | cut -c1-16)
if [[ ! -e $deps/stamp-$stamp ]]; then
  [[ $(uname -m) == x86_64 ]] || fail "the wheels of deps/wheels.txt are for x86_64, this machine is $(uname -m)"
  # What is there is replaced: never a folder that somebody else filled.
  [[ ! -e $deps || -d $deps/torch || -z $(ls -A "$deps") ]] || fail "$deps holds other things than LibTorch; name a folder of its own in KINORA_DEPS"
  say "LibTorch 2.11 from PyPI into $deps (about 530 MB to fetch, 1.2 GB on disk)"
  [[ $(df --output=avail -k . | tail -n 1) -gt 3000000 ]] || fail "not enough disk for LibTorch: 3 GB are needed beside the project"
  python3 -m pip --version >/dev/null 2>&1 || fail "python3 with pip is not here (python3, python3-pip); it fetches the wheels"
  rm -rf "$deps.part"
  # The wheel's Python version is named, because only its C++ libraries are used.
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --implementation cp --target "$deps.part" -r deps/wheels.txt ||
    fail "pip could not fetch or verify the wheels of deps/wheels.txt"
  rm -rf "$deps" && mv "$deps.part" "$deps"
  touch "$deps/stamp-$stamp"
fi
say "all there"
