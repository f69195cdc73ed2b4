"""Incidents: what on-call has to know, told once, and delivered for certain.

`rules` says what should be open, `changes` what is to be done about it, `notices` who is told: pure functions, which
`evaluate` feeds from the marts and whose answer it writes in one transaction, and `replay` feeds from the past.
`delivery` empties the outbox. What belongs here is what reacts; what late means stands in the marts.
"""
