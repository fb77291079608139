"""Batch jobs: pictures of a data set to tokens and back, in units that can be done again. Knows no RPC.

source ── units ──> engine (processes or Ray) ──> worker: encode or decode ──> sink: one shard per unit
                                                                 └── report of the unit ──> job
"""
