"""Postgres: where it is (settings), the embedded server, connections by role, migrations, COPY.

What belongs here: anything that every subject needs of the database and that knows no subject. Tables of
the schemas `raw`, `catalog`, `control` and `ops` are made by the migrations; dbt owns the rest.
"""
