"""Metric logs: lines of access logs and heartbeats, the inputs read from them, and indicators by the hour."""
