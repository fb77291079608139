"""Measurements that anybody can run: every number in the README comes from a script in this folder."""
