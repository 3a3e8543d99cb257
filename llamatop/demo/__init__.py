"""An embedded cluster: real sockets and processes in front of simulated machines.

Nothing else in llamatop imports this package but its own command: the dashboard connects to what
runs here as it would to any cluster.
"""
