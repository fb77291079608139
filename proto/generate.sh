#!/bin/sh
# Regenerates the Python stubs beside the .proto files: sh proto/generate.sh [output folder]
# The stubs are committed; a test compares them with what this command writes.
#
# Generated code refuses a protobuf runtime older than its compiler, and from protobuf 5 on also one two majors
# newer. So the compiler is pinned to the oldest grpcio that the client supports (extra `client` in
# pyproject.toml), whose code carries neither check; it lives in a folder of its own, since its protobuf is not
# the server's. Exit code 3: the compiler is not there and cannot be installed.
set -eu
cd "$(dirname "$0")"
out="${1:-.}"
python="${PYTHON:-python}"
version=1.60.1
tools="$(cd .. && pwd)/.proto-tools/grpcio-tools-$version"
if [ ! -d "$tools" ]; then
    # setuptools: this version imports its pkg_resources, which later ones no longer have.
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --target "$tools.$$" "grpcio-tools==$version" "setuptools==75.8.2" || {
        rm -rf "$tools.$$"
        echo "cannot install grpcio-tools $version: it needs Python 3.11 or 3.12, and a package index" >&2
        exit 3
    }
    # Where another run was first, its folder stays.
    if [ -d "$tools" ]; then rm -rf "$tools.$$"; else mv "$tools.$$" "$tools"; fi
fi
PYTHONPATH="$tools" exec "$python" -W ignore::DeprecationWarning -m grpc_tools.protoc \
    -I . -I ../third_party/proto --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" \
    tessera/v1/types.proto tessera/v1/tokenizer_service.proto tessera/v1/model_service.proto
