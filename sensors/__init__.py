"""What reacts: `ticks` moves the data on, `oncall` tells people; neither imports the other.

No module here imports dbt or pandas when it is loaded: that alone costs seconds, and what is on call must be up first.
"""
