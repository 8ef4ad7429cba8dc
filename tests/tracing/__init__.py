"""Tests of tracing by OpenTelemetry. Without its SDK they are skipped."""
