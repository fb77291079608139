"""Batch jobs: a data set of pictures to one of tokens and back, in units that can be done again. Knows no RPC.

source ── units ──> engine (processes or Ray) ──> worker: read, encode, cut (or decode) ──> sink: one shard per unit
                                                                 └── report of the unit ──> job
"""
