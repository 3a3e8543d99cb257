"""Programs that run on a node: Python 3.8, standard library only, sent there as text."""
