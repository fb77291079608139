"""Wire package tessera.admin.v1. Generated code: do not edit (proto/generate.sh)."""
