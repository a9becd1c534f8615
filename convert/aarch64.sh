#!/bin/sh
# Fill FOLDER with what an emulated ARM processor needs to run the model file: Debian's Python 3.11 for arm64
# (root/) and the runtime's wheels (site/). Needs apt, and root for the architecture and the emulator.
#
#   convert/aarch64.sh FOLDER
set -eu
folder=${1:?usage: convert/aarch64.sh FOLDER}
mkdir -p "$folder/debs" "$folder/wheels" "$folder/site" "$folder/root"
folder=$(cd "$folder" && pwd)

dpkg --add-architecture arm64
apt-get update -qq
apt-get install -y -qq qemu-user-static unzip
cd "$folder/debs"
apt-get download -qq python3.11-minimal:arm64 libpython3.11-minimal:arm64 libpython3.11-stdlib:arm64 libc6:arm64 \
    zlib1g:arm64 libexpat1:arm64 libssl3:arm64 libgcc-s1:arm64 libstdc++6:arm64 libbz2-1.0:arm64 liblzma5:arm64 \
    libffi8:arm64 libuuid1:arm64 libcrypt1:arm64
for package in *.deb; do dpkg -x "$package" "$folder/root"; done
cd "$folder/wheels"
# ai-edge-litert 2.3.0 dies in this emulator with any file; whether it does on a real ARM, only that tells.
python3 -m pip download --quiet --no-deps --only-binary :all: --python-version 311 \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 \
    numpy==1.26.4 ai-edge-litert==2.1.0 flatbuffers tqdm typing-extensions protobuf backports.strenum
for wheel in *.whl; do unzip -qo "$wheel" -d "$folder/site"; done
echo "$folder is ready"
