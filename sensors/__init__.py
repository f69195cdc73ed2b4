"""What reacts: arrivals, ticks, incidents, failures and the delivery of alerts.

A code location of its own, which never imports dbt or pandas: their import alone costs seconds, and what is on call
must be up first.
"""
