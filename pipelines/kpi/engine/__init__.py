"""The engine: states of what was touched, values of the periods over it, restatements; within the tick's publication.

What changed is in `kpi.touched`, logged by triggers in the transactions of those who changed it; marts change in this
very transaction. Time alone opens and closes periods, and ends what is kept. All of it follows the change, not history.
"""
