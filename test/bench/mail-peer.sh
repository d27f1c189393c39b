#!/usr/bin/env bash
# Starts or stops Pillarbox for the mail benchmark of ../shared/bench/mail, with the interface
# of its peers/peer.sh: mail-peer.sh start|stop|wipe NAME. start prints shell variables.
# PILLARBOX names the binary; PEER_NS the network namespace (empty: none).
set -euo pipefail
verb=$1
bin=${PILLARBOX:?PILLARBOX must name the binary}
dir=${PEER_BASE:-${TMPDIR:-/tmp}/mailbench-peers}/pillarbox
ns=()
[ -n "${PEER_NS-mailbench}" ] && ns=(ip netns exec "${PEER_NS-mailbench}")
if [ ${#ns[@]} -gt 0 ] && ! ip netns list | grep -q "^${PEER_NS-mailbench}\b"; then
  ip netns add "${PEER_NS-mailbench}"
  ip -n "${PEER_NS-mailbench}" link set lo up
fi
case $verb in
start)
  mkdir -p "$dir"
  if [ ! -e "$dir/users.csv" ]; then
    for i in $(seq 0 "${USERS:-99}"); do echo "user$i@bench.test,bench-pass"; done >"$dir/users.csv"
    "$bin" init --dir "$dir/data" --domain bench.test >/dev/null
    # The bench ports, in the clear, as the peers have them.
    sed -i -e 's/^plaintext_auth_from = .*/plaintext_auth_from = ["127.0.0.0\/8"]/' \
      -e '/^\[listen\]/,/^\[/{s/^\(smtp\|submission\|submissions\|pop3\|pop3s\|imap\|imaps\|http\|https\) = .*//}' \
      -e 's/^\[listen\]/[listen]\nsmtp = "127.0.0.1:20026"\nimap = "127.0.0.1:20143"\npop3 = "127.0.0.1:20110"/' \
      "$dir/data/pillarbox.toml"
    grep -q '^plaintext_auth_from' "$dir/data/pillarbox.toml" ||
      sed -i '1i plaintext_auth_from = ["127.0.0.0/8"]' "$dir/data/pillarbox.toml"
    "$bin" user add --config "$dir/data/pillarbox.toml" --from "$dir/users.csv" >/dev/null
  fi
  "${ns[@]}" "$bin" serve --config "$dir/data/pillarbox.toml" >"$dir/log" 2>&1 &
  echo $! >"$dir/pid"
  for _ in $(seq 200); do
    "${ns[@]}" bash -c 'exec 3<>/dev/tcp/127.0.0.1/20143' 2>/dev/null && break
    sleep 0.05
  done
  echo "SMTP=127.0.0.1:20026 PROTO=smtp IMAP=127.0.0.1:20143 POP3=127.0.0.1:20110 PIDS=$(cat "$dir/pid") DIRS=$dir/data"
  ;;
stop)
  [ -s "$dir/pid" ] || exit 0
  p=$(cat "$dir/pid")
  kill -TERM "$p" 2>/dev/null || exit 0
  for _ in $(seq 300); do [ -e "/proc/$p" ] || exit 0; sleep 0.05; done
  echo "pid $p still there" >&2
  exit 1
  ;;
wipe) rm -rf "$dir" ;;
esac
