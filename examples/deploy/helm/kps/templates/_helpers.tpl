{{- define "kps.name" -}}
{{- if contains "kps" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-kps{{ end -}}
{{- end }}

{{- define "kps.selector" -}}
app.kubernetes.io/name: kps
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kps.labels" -}}
{{ include "kps.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "kps.secrets" -}}
{{- if and .Values.tokens.text (not .Values.tokens.existingSecret) }}
{{ .Values.tokens.key }}: {{ .Values.tokens.text | quote }}
{{- end }}
{{- if and .Values.cluster.url .Values.cluster.secret.text (not .Values.cluster.secret.existingSecret) }}
{{ .Values.cluster.secret.key }}: {{ .Values.cluster.secret.text | quote }}
{{- end }}
{{- end }}
