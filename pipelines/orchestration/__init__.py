"""What every subject needs of Dagster: the instance, runs in process, jobs, and how a table or an error is shown.

What belongs here knows no subject. Assets and checks stand with what they describe (`landing/`, `catalog/`,
`transform/`, a subject); `pipelines/definitions.py` puts them together.
"""
