"""The inputs, a file for each kind: what lines of logs tell."""
