"""Copies of tables of other databases: what KPIs read, brought up to date before a tick.

New and changed rows are found by a cursor column, deleted ones by comparing all rows now and then; only rows that
differ are written, so that triggers log what changed and nothing else. Each database is read by a thread of its own,
with timeouts: one that fails keeps what was copied before, is asked again after a while, and stops no other. A tick
waits for a moment only; what takes longer comes with the next.
"""
