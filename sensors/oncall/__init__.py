"""What must go on when the pipelines do not load: incidents, their delivery, the watcher, the purge.

The code location `oncall`. It imports neither dbt nor what moves the data on, so nothing of theirs can keep it from
loading.
"""
