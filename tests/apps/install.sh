#!/usr/bin/env bash
# Installs what the tests in this folder run: compilers for two processors, an emulator of
# the other one, a JDK, browsers, Node.js and what it runs. For Debian on x86-64; does
# nothing where all of it is there.
set -euo pipefail
cd "$(dirname "$0")"

packages=()
# A program, and the package that brings it.
need() { type -p "$1" > /dev/null || packages+=("$2"); }
need gcc gcc
need clang clang
need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
need qemu-aarch64-static qemu-user-static
need javac default-jdk-headless
need node nodejs
need npm npm
has_one_of() { [ -n "$(type -p "$@")" ]; }
has_one_of chromium google-chrome || packages+=(chromium)
has_one_of firefox-esr firefox || packages+=(firefox-esr)
# A header, and the package that brings it.
need_header() { [ -e "$1" ] || packages+=("$2"); }
need_header /usr/include/utf8proc.h libutf8proc-dev
need_header /usr/aarch64-linux-gnu/include/stdio.h libc6-dev-arm64-cross
# The run-time library of clang's sanitizers and fuzzer.
compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer*' > /dev/null ||
  packages+=(libclang-rt-dev)

if [ ${#packages[@]} -gt 0 ]; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  echo "installing ${packages[*]}" >&2
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${packages[@]}" > /dev/null
fi
# npm writes its own list last.
[ node_modules/.package-lock.json -nt package-lock.json ] ||
  npm ci --ignore-scripts --no-audit --no-fund
