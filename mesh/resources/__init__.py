"""Knative objects as typed values: decode.py reads them, meta.py has what all share, one file each API group. Pure.

Nothing here knows what runs: that is `mesh.plan`.
"""
