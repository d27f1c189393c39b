#!/usr/bin/env bash
# Runs the engine benchmark of ../shared/bench/engine with our adapter, beside its peers, and
# prints the table of ratios. ENGINES, REPS, SCALE, DUR and W may be set.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
src=${ENGINEBENCH:-$root/../shared/bench/engine}
[ -d "$src" ] || { echo "enginebench: $src is not there" >&2; exit 1; }
out=${OUT:-$(mktemp -d)}
mkdir -p "$out/src" "$out/db"
cp "$src"/*.go "$src"/go.mod "$src"/go.sum "$out/src/"
cp "$root/test/bench/engine_ours.go.txt" "$out/src/engine_ours.go"
cd "$out/src"
go mod edit -require=pillarbox@v0.0.0 -replace=pillarbox="$root"
go mod tidy >/dev/null 2>&1 || true
go test -tags ours -run 'Conformance/ours' .
go build -tags ours -o "$out/enginebench" .
cd "$out"
args=(suite -engine "${ENGINES:-ours,bbolt,pebble,sqlite-cgo,lmdb}" -reps "${REPS:-3}" -scale "${SCALE:-0.25}"
  -dur "${DUR:-2s}" -dir "$out/db" -out "$out/raw.jsonl")
[ -n "${W:-}" ] && args+=(-w "$W")
./enginebench "${args[@]}"
./enginebench table "$out/raw.jsonl"
echo "raw lines: $out/raw.jsonl"
