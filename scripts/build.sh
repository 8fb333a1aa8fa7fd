#!/bin/sh
# `npm run build`: dist/ is src as JavaScript; dist/bench/ is the benchmark, a program of its own with what it needs of src, so that neither
# imports the other.
set -eu
cd "$(dirname "$0")/.."
rm -rf dist
node_modules/.bin/tsc -p tsconfig.build.json
node_modules/.bin/tsc -p tsconfig.bench.json
cp package.json dist/bench/
cp -r bench/page dist/bench/bench/
cp bench/baseline.json dist/bench/bench/
