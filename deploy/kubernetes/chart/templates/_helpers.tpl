{{- define "teacherd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters leave room for what names of pods and claims add. */}}
{{- define "teacherd.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "teacherd.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "teacherd.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "teacherd.serveName" -}}
{{- printf "%s-serve" (include "teacherd.fullname" .) -}}
{{- end -}}

{{/* Of a pod: (list $ "daemon") or (list $ "serve"). */}}
{{- define "teacherd.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "teacherd.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "teacherd.labels" -}}
{{- $root := index . 0 -}}
{{ include "teacherd.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "teacherd.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{- define "teacherd.claim" -}}
{{- default (printf "state-%s-0" (include "teacherd.fullname" .)) .Values.persistence.existingClaim -}}
{{- end -}}

{{- define "teacherd.secret" -}}
{{- if .Values.secret.existing -}}
{{- .Values.secret.existing -}}
{{- else if .Values.secret.environment -}}
{{- include "teacherd.fullname" . -}}
{{- end -}}
{{- end -}}

{{/*
The user's configuration, over what being in a cluster asks for. Inference pods wait for a daemon
that is still making its base model: a restart would not make them find a version sooner.
*/}}
{{- define "teacherd.config" -}}
{{- $here := dict "endpoints" (dict "host" "0.0.0.0") "serving" (dict "host" "0.0.0.0" "cache_directory" "/var/lib/teacherd/cache" "start_seconds" 600) -}}
{{- if and .Values.serve.enabled (eq .Values.serve.source "http") -}}
{{- $_ := set $here.endpoints "serve_versions" true -}}
{{- end -}}
{{- if .Values.base.existingClaim -}}
{{- $_ := set $here "model" (dict "base" "/base") -}}
{{- end -}}
{{- mustMerge (deepCopy .Values.config) $here | toYaml -}}
{{- end -}}

{{- define "teacherd.daemonConfig" -}}
{{- omit (include "teacherd.config" . | fromYaml) "serving" | toYaml -}}
{{- end -}}

{{- define "teacherd.serveConfig" -}}
{{- $config := include "teacherd.config" . | fromYaml -}}
{{- if not $config.serving.root -}}
{{- $_ := set $config.serving "root" (include "teacherd.root" .) -}}
{{- end -}}
{{- pick $config "serving" "logging" | toYaml -}}
{{- end -}}

{{- define "teacherd.root" -}}
{{- $config := include "teacherd.config" . | fromYaml -}}
{{- if eq .Values.serve.source "volume" -}}
{{- printf "/daemon/%s/public" (dig "process" "state_directory" "state" $config | trimPrefix "/var/lib/teacherd/") -}}
{{- else -}}
{{- printf "%s://%s:%s/public" (include "teacherd.daemonScheme" . | lower) (include "teacherd.fullname" .) (include "teacherd.daemonPort" .) -}}
{{- end -}}
{{- end -}}

{{- define "teacherd.daemonPort" -}}
{{- dig "endpoints" "port" 9464 .Values.config | int -}}
{{- end -}}

{{- define "teacherd.servePort" -}}
{{- dig "serving" "port" 9465 .Values.config | int -}}
{{- end -}}

{{- define "teacherd.daemonScheme" -}}
{{- ternary "HTTPS" "HTTP" (not (empty (dig "endpoints" "certificate_file" "" .Values.config))) -}}
{{- end -}}

{{- define "teacherd.serveScheme" -}}
{{- ternary "HTTPS" "HTTP" (not (empty (dig "serving" "certificate_file" "" .Values.config))) -}}
{{- end -}}

{{/* The service that gives the daemon's pods their names; of several ranks the headless one. */}}
{{- define "teacherd.daemonNetwork" -}}
{{- printf "%s%s" (include "teacherd.fullname" .) (ternary "-ranks" "" (gt (int .Values.daemon.pods) 1)) -}}
{{- end -}}

{{/* What every container of the daemon's pod finds around it. */}}
{{- define "teacherd.daemonSurroundings" -}}
{{- $config := include "teacherd.config" . | fromYaml -}}
workingDir: /var/lib/teacherd
securityContext: {{- toYaml .Values.containerSecurityContext | nindent 2 }}
env:
  # The image sets it, and the environment goes before the file.
  - name: TEACHERD_ENDPOINTS__HOST
    value: {{ $config.endpoints.host | quote }}
  {{- if gt (int .Values.daemon.pods) 1 }}
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- end }}
  {{- with .Values.daemon.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with include "teacherd.secret" . }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
resources: {{- toYaml .Values.daemon.resources | nindent 2 }}
volumeMounts:
  - {name: state, mountPath: /var/lib/teacherd}
  - {name: config, mountPath: /etc/teacherd, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.base.existingClaim }}
  - {name: base, mountPath: /base, readOnly: true}
  {{- end }}
  {{- with .Values.daemon.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* What both pods are told alike: (list $ .Values.daemon). */}}
{{- define "teacherd.podSettings" -}}
{{- $root := index . 0 -}}
{{- $pod := index . 1 -}}
# Nothing here speaks to the API server.
automountServiceAccountToken: false
# Variables such as TEACHERD_PORT, which Kubernetes would make of Services, are not settings.
enableServiceLinks: false
securityContext: {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with $pod.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pod.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
