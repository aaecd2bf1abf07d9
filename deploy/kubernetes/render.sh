#!/usr/bin/env bash
# Renders the chart for each values file of examples/ into manifests/, for who does not use helm;
# a test holds that they are what this makes. An argument names another helm.
set -euo pipefail
cd "$(dirname "$0")"
helm=${1:-helm}

for values in examples/*.yaml; do
  name=$(basename "$values")
  {
    printf '# Made by deploy/kubernetes/render.sh from examples/%s. To use it:\n' "$name"
    printf '#   kubectl create namespace teacherd && kubectl -n teacherd apply -f %s\n' "$name"
    # No release of helm's holds these objects.
    "$helm" template teacherd chart --namespace teacherd --kube-version 1.34 --values "$values" |
      sed '/^ *helm.sh\/chart: /d; /^ *app.kubernetes.io\/managed-by: /d'
  } >"manifests/$name"
done
