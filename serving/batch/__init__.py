"""Batch jobs: a data set of pictures to a data set of tokens, in units that can be done again. Knows no RPC.

source ── units ──> engine (processes or Ray) ──> worker: read, encode, cut ──> sink: one shard per unit
                                                                 └── report of the unit ──> job
"""
