"""The kinds of trouble that the embedded cluster can show; light, for --help."""

KINDS = {
    "dead-node": "a node loses power",
    "partition": "a node's network goes silent; connections to it hang",
    "loading": "a worker takes ten minutes to load its model",
    "crash-loop": "a worker cannot load its model and restarts for ever",
    "hang-worker": "a worker's engine hangs while its /health still says ok",
    "no-metrics": "a worker was started without --metrics",
    "unauthorized": "a worker wants an API key that nobody has",
    "lost-gpu": "a card falls off the bus and its worker cannot start",
    "hot-gpu": "a card reaches its slowdown temperature and is throttled",
    "nginx-broken": "somebody left an invalid nginx file behind",
    "stale-tunnel": "a tunnel still leads to where its workers were before",
}
