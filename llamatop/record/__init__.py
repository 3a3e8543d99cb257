"""What was seen, kept in a file and seen again: snapshots of the whole cluster, not node by node.

A snapshot holds what the person saw (rates, events, membership), so that any moment can be gone to
without going through all before it, and a later llamatop that reckons otherwise shows it unchanged.
The probe's own lines would need all of that reckoned anew from the first tick on, are larger, and
carry nginx's files.
"""
