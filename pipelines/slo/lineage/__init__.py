"""OpenLineage as a source of job statuses: its events, what they say of runs, and the statuses that follow."""
