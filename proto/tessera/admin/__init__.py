"""Generated from the .proto files; see proto/generate.sh."""
