"""The parts of scripts/bench; scripts/harden uses `machine` too.

machine.py  processes, CPU time, memory, binaries
site.py     where everybody listens, the certificate, the origins
peers.py    the configuration of each proxy
works.py    what is asked of them, by which generator, and the goals
tables.py   rounds, tables, idle connections, latency
"""
