"""SLOs of batch jobs: what was promised, what the jobs reported, and who is late."""
