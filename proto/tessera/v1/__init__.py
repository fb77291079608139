"""Wire package tessera.v1. Generated code: do not edit (proto/generate.sh)."""
