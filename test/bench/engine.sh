#!/usr/bin/env bash
# Runs the engine benchmark of ../shared/bench/engine with our adapter, beside its peers, and
# prints the table of ratios. ENGINES, REPS, SCALE, DUR and W may be set; LIMIT_MB puts all of them
# into a memory cgroup of that size, page cache included (as root; for W=big: 128).
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
if [ -n "${LIMIT_MB:-}" ]; then
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    group=/sys/fs/cgroup/enginebench limit=memory.max
  else
    group=/sys/fs/cgroup/memory/enginebench limit=memory.limit_in_bytes
  fi
  mkdir -p "$group"
  echo $((LIMIT_MB << 20)) >"$group/$limit"
  (echo "$BASHPID" >"$group/cgroup.procs" && ./enginebench "${args[@]}")
  rmdir "$group"
else
  ./enginebench "${args[@]}"
fi
./enginebench table "$out/raw.jsonl"
echo "raw lines: $out/raw.jsonl"
