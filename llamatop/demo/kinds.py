"""The kinds of trouble that the embedded cluster can show; light, for --help."""

KINDS = {
    "hang-worker": "a worker's engine hangs while its /health still says ok",
    "crash-loop": "a worker fails to load its model and is restarted for ever",
    "lost-gpu": "a card falls off the bus and its worker cannot start",
    "hot-gpu": "a card reaches its slowdown temperature and is throttled",
    "dead-node": "the last node loses power after a few seconds",
    "nginx-broken": "somebody left an invalid nginx file behind",
    "loading": "a worker takes ten minutes to load its model",
    "unauthorized": "a worker wants an API key that nobody has",
    "partition": "the last node's network goes silent after a few seconds",
}
