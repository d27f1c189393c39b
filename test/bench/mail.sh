#!/usr/bin/env bash
# Runs the mail benchmark of ../shared/bench/mail against Pillarbox and, where they are
# installed, Dovecot alone and Postfix in front of it, interleaved, and prints the table.
# Needs root (a network namespace) for the peers. ROUNDS, N, BIG, W, PEERS may be set.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
src=${MAILBENCH_SRC:-$root/../shared/bench/mail}
[ -d "$src" ] || { echo "mailbench: $src is not there" >&2; exit 1; }
out=${OUT:-$(mktemp -d)}
mkdir -p "$out/src" "$out/results"
cp -r "$src"/. "$out/src/"
chmod -R u+w "$out/src"
(cd "$out/src" && go build -o "$out/mailbench" .)
export PILLARBOX=${PILLARBOX:-$root/bin/pillarbox}
export MAILBENCH=$out/mailbench OUT=$out/results
export PEER_BASE=${PEER_BASE:-$out/peers}
export ROUNDS=${ROUNDS:-3} N=${N:-3000} BIG=${BIG:-10000} PHASES=${PHASES:-fill $(seq "${ROUNDS:-3}") conns}
peers=("$root/test/bench/mail-peer.sh:pillarbox")
if [ -z "${PEERS-unset}" ]; then
  :
elif [ "${PEERS-unset}" != unset ]; then
  read -ra more <<<"$PEERS"
  peers+=("${more[@]}")
elif command -v dovecot >/dev/null; then
  id vmail >/dev/null 2>&1 || useradd -r -s /usr/sbin/nologin vmail
  sysctl -q fs.inotify.max_user_instances=4096 || true
  peers+=(dovecot-sdbox dovecot-maildir)
  command -v postfix >/dev/null && peers+=(postfix+dovecot-maildir)
fi
bash "$out/src/bench.sh" "${peers[@]}"
python3 "$out/src/summarize.py" "$OUT"
echo "raw lines: $OUT"
