#!/bin/sh
# Regenerates the Python stubs beside the .proto files: sh proto/generate.sh [output folder]
# The stubs are committed; a test compares them with what this command writes.
set -eu
cd "$(dirname "$0")"
out="${1:-.}"
exec "${PYTHON:-python}" -m grpc_tools.protoc -I . -I ../third_party/proto \
    --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" \
    tessera/v1/types.proto tessera/v1/tokenizer_service.proto tessera/v1/model_service.proto \
    tessera/admin/v1/admin_service.proto
