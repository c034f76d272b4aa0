"""Traces: the port that hub and provider speak to, and OpenTelemetry behind it, which is imported if it is wanted."""
