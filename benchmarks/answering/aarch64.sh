#!/usr/bin/env bash
# Makes a folder with what a program for aarch64 needs to run in qemu's emulation: Debian's
# C, C++ and utf8proc libraries, and LiteRT's from its wheel. Changes nothing else on the
# machine: apt works with lists of its own.
#
#     aarch64.sh FOLDER PYTHON LITERT_VERSION
set -euo pipefail
folder=$1 python=$2 version=$3
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/packages"
cd "$folder"
touch apt/status
apt=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$PWD/apt"
  -o Dir::State::status="$PWD/apt/status" -o Dir::Cache="$PWD/apt/cache" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update
(cd packages && apt-get "${apt[@]}" download libc6 libstdc++6 libgcc-s1 libutf8proc2 libutf8proc-dev)
for package in packages/*.deb; do dpkg-deb -x "$package" root; done
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
  --platform manylinux_2_27_aarch64 --dest packages "ai-edge-litert==$version"
"$python" - <<END
import glob, zipfile
(wheel,) = glob.glob("packages/ai_edge_litert-*.whl")
zipfile.ZipFile(wheel).extract("ai_edge_litert/libLiteRt.so", "root")
END
# LiteRT looks into it for what the processor can do; without one for ARM it crashes.
mkdir root/proc
cat > root/proc/cpuinfo <<END
processor	: 0
BogoMIPS	: 48.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x3
CPU part	: 0xd0b
CPU revision	: 1
END
touch complete
