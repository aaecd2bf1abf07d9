#!/usr/bin/env bash
# Put an image through what happens to a container: streams images into it, kills it, stops it
# inside a task, and counts that every record was learned once.
#   docker build -f deploy/docker/Dockerfile -t teacherd .
#   deploy/docker/try.sh teacherd [options for docker run, such as --network=host]
set -euo pipefail

image=$1
shift
volume=teacherd-trial
name=teacherd-trial
url=http://127.0.0.1:9464
# What a cluster that trusts nobody grants.
confined=(--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --user 65532:65532
  --memory 4g --volume "$volume:/var/lib/teacherd" --env TEACHERD_ENDPOINTS__HOST=127.0.0.1 "$@")
produced=0

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "FAILED: $*"
  docker logs --tail 40 "$name" >&2 || true
  exit 1
}

clean() {
  docker rm --force "$name" >/dev/null 2>&1 || true
  docker volume rm --force "$volume" >/dev/null 2>&1 || true
}

once() { docker run --rm "${confined[@]}" "$image" "$@"; }

ask() {  # a value of /status, by a path of keys
  docker exec "$name" teacherd status --url "$url" --json 2>/dev/null |
    python3 -c 'import functools, json, sys
print(functools.reduce(lambda value, key: value.get(key, {}), sys.argv[1:], json.load(sys.stdin)))' "$@" 2>/dev/null || true
}

wait_until() {  # what, seconds, command...
  local what=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || fail "waited in vain for $what"
    sleep 1
  done
}

is_healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$name")" = healthy ]; }
# A place is the next record's, and the stream log counts from 1.
learned() { ask lineage places | python3 -c 'import ast, sys; print(sum(place - 1 for place in ast.literal_eval(sys.stdin.read() or "{}").values()))'; }
has_learned_all() { [ "$(learned)" -ge "$produced" ]; }
is_in_task() { [ "$(ask task steps_done)" -gt 0 ] 2>/dev/null; }

produce() {
  once produce patterns.npz --limit 100 --shuffle-seed "$produced" --config base/config.yaml >/dev/null 2>&1
  produced=$((produced + 100))
}

clean
trap clean EXIT
# Ten blurred patterns with noise: enough to learn from, and nothing to download.
docker run --rm "${confined[@]}" --entrypoint python "$image" -c 'import numpy as np
rng = np.random.default_rng(0)
labels = rng.integers(0, 10, 1000)
patterns = rng.integers(0, 256, (10, 8, 8)).repeat(2, 1).repeat(2, 2)
images = patterns[labels] + rng.normal(0, 60, (1000, 16, 16))
np.savez("patterns.npz", images=images.clip(0, 255).astype(np.uint8), labels=labels.astype(str))'
once pretrain patterns.npz --epochs 5 --out base >/dev/null
printf '%s\n' 'model: {base: base}' 'tasks: {instances: 50, min_instances: 10}' 'process: {num_threads: 1}' \
  'learning: {epochs: 100}' |
  docker run --rm --interactive "${confined[@]}" --entrypoint sh "$image" -c 'cat > base/config.yaml'
docker run --detach --name "$name" "${confined[@]}" "$image" run --config base/config.yaml >/dev/null
wait_until "a healthy container" 180 is_healthy
say "healthy: read-only root, no capabilities, no root"

produce
wait_until "the records to be learned" 300 has_learned_all
say "learned the first $produced records"

produce
docker kill "$name" >/dev/null
docker start "$name" >/dev/null
wait_until "the records to be learned" 300 has_learned_all
say "docker kill: started again, goes on"

produce
wait_until "a task in training" 120 is_in_task
began=$SECONDS
docker stop --time 30 "$name" >/dev/null
code=$(docker inspect --format '{{.State.ExitCode}}' "$name")
[ "$code" = 0 ] || fail "docker stop: exit code $code"
stopped=$((SECONDS - began))
say "docker stop inside a task: $stopped s, exit code 0"

docker start "$name" >/dev/null
wait_until "the records to be learned" 300 has_learned_all
total=$(learned)
[ "$total" = "$produced" ] || fail "$produced produced, $total learned"
docker exec "$name" teacherd versions verify --config base/config.yaml >/dev/null || fail "versions verify"
say "$produced records produced, $total learned; every version verified"
peak=$(docker exec "$name" sh -c 'cat /sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes 2>/dev/null' | head -1 || true)
docker history --human=false --format '{{.Size}} {{.CreatedBy}}' "$image" |
  awk '$1 > 1000000 {printf "%8.1f MB  %s\n", $1 / 1e6, substr($0, index($0, $2), 90)}' >&2
printf '{"produced": %d, "learned": %d, "seconds_to_stop": %d, "image_bytes": %s, "peak_bytes": %s}\n' \
  "$produced" "$total" "$stopped" "$(docker image inspect --format '{{.Size}}' "$image")" "${peak:-null}"
