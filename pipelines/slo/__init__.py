"""SLOs of batch jobs: the feed of job statuses, promises, and what becomes of them."""
