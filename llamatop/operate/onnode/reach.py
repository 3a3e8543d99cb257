"""Asks a member for its health as nginx reaches it; run on the balancer, the address as argument.

Prints the HTTP status; ends with 1 and the reason on stderr where there is no HTTP answer.
"""

from __future__ import annotations

import socket
import sys

SECONDS = 3


def status(address: str) -> str:
    """The status of `GET /health`, as three digits; raises OSError or ValueError."""
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        connection.connect(address[5:])
    else:
        host, colon, port = address.rpartition(":")
        if not colon or address.endswith("]"):
            host, port = address, "80"
        connection = socket.create_connection((host.strip("[]"), int(port)), SECONDS)
    with connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        words = connection.recv(64).decode("latin-1").split()
    if len(words) < 2 or not words[0].startswith("HTTP/"):
        raise ValueError("the connection opens, but nothing answers behind it")
    return words[1]


if __name__ == "__main__":
    try:
        print(status(sys.argv[1]))
    except (OSError, ValueError) as error:
        sys.exit(str(getattr(error, "strerror", None) or error))
