#!/usr/bin/env bash
# `make demo`: from a page-view log to predictions on screen, every step an ordinary command that it shows.
set -euo pipefail

ENGINE=${ENGINE:-local} KEEP=${KEEP:-1} LOG=${LOG:-} FORMAT=${FORMAT:-events} PORT=${PORT:-8000} METRICS_PORT=${METRICS_PORT:-9000}
export HETLM_HOME=${HETLM_HOME:-$HOME/.cache/hetlm}
work=$HETLM_HOME/demo
url=http://127.0.0.1:$PORT

say() { printf '\n\033[1;36m%s\033[0m\n' "$*" >&2; }
run() {
    printf '\033[2m$ %s\033[0m\n' "$*" >&2
    "$@"
}

mkdir -p "$work"
if [[ -z $LOG ]]; then
    say "1/6  A shop's page-view log (simulated: 4 kinds of visitors, 3,000 of them)"
    LOG=$work/log/events.csv FORMAT=events
    [[ -f $LOG ]] || run hetlm simulate --preset tastes --users 3000 --seed 7 --out "$work/log"
else
    say "1/6  Your log: $LOG"
    # Keyed by the log, so that another log never meets this one's dataset.
    work=$work/$(basename "${LOG%%.*}")-$(printf '%s' "$LOG$FORMAT" | sha256sum | cut -c1-8)
    mkdir -p "$work"
fi

say "2/6  Ingest: from events to sessions, histories and targets"
run hetlm ingest "$LOG" --format "$FORMAT" --out "$work/dataset" ${INGEST_OPTIONS:-}

say "3/6  Train: one predictor for all, then one per kind of visitor, and the selector"
run hetlm train "$work/dataset" --out "$work/bundle" --preset demo --clusters 4 --warm-users 8000 --warm-epochs 2 ${TRAIN_OPTIONS:-}

say "4/6  Evaluate on visitors that training never saw"
run hetlm evaluate "$work/bundle" "$work/dataset" --users 300 --out "$work/evaluation.json"
run hetlm report "$work/bundle" "$work/evaluation.json" --out "$work/report.html"

say "5/6  Serve on the $ENGINE engine"
HETLM_LOG_LEVEL=${HETLM_LOG_LEVEL:-warning} hetlm serve "$work/bundle" --engine "$ENGINE" --port "$PORT" --metrics-port "$METRICS_PORT" &
server=$!
trap 'kill -TERM $server 2>/dev/null; wait $server 2>/dev/null' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
ready() { python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$url/readyz" 2>/dev/null; }
until ready; do
    kill -0 $server 2>/dev/null || { echo "error: the service did not start; its message is above" >&2; exit 1; }
    sleep 0.5
done

say "6/6  Ask for three visitors' next sessions"
run hetlm visit "$url" --dataset "$work/dataset" --visitors 3

if [[ $KEEP == 0 ]]; then
    say "Done."
    exit 0
fi
cat >&2 <<EOF

$(printf '\033[1;32mServing.\033[0m Ctrl-C stops it.')
  console        $url/
  predictions    POST $url/predict
  report         $work/report.html
  interface      $url/openapi.json
  metrics        http://127.0.0.1:$METRICS_PORT/metrics
  bundle         $work/bundle  (hetlm bundle show)

Next: make demo LOG=path/to/your/log.csv      the same on your own log
      make demo ENGINE=vllm                   the same on vLLM engines
EOF
wait $server
