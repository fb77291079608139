#!/bin/sh
# Holds the .proto files against buf's STANDARD rules, its format, and the released API: sh proto/check.sh
#
# The released API is released.txtpb, an image of the .proto files as the last release had them; a file, since a
# shallow clone has no tags. `sh proto/check.sh --release` takes what is here as released: a step of a release.
set -eu
cd "$(dirname "$0")/.."
version=1.75.0
tools="$PWD/.proto-tools/buf-$version"
if ! command -v npm >/dev/null 2>&1; then
    echo "proto/check.sh: npm is not installed, so buf did NOT check the .proto files" >&2
    exit 0
fi
if [ ! -d "$tools" ]; then
    # buf's install script only shortens its start; the binary comes as a package of its own.
    npm install --prefix "$tools.$$" --silent --no-audit --no-fund --ignore-scripts "@bufbuild/buf@$version" || {
        rm -rf "$tools.$$"
        echo "proto/check.sh: npm cannot install @bufbuild/buf $version; is there a package registry?" >&2
        exit 1
    }
    # Where another run was first, its folder stays.
    if [ -d "$tools" ]; then rm -rf "$tools.$$"; else mv "$tools.$$" "$tools"; fi
fi
buf="$tools/node_modules/.bin/buf"
if [ "${1:-}" = --release ]; then
    exec "$buf" build proto --exclude-source-info -o proto/released.txtpb
fi
"$buf" lint
"$buf" format --diff --exit-code
"$buf" breaking proto --against proto/released.txtpb
