"""The roof: where parts are chosen and joined. `parent.py` is `knit run`, `dataplane.py` is one of its workers.

Nothing is re-exported here, so that a worker does not import what only the parent needs.
"""
