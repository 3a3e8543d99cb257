"""Where alerts go: a command's standard input, or a webhook. Bounded, and never with a shell."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Sequence

DELIVERY_SECONDS = 10.0

# They log each request by its address.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


async def to_command(argv: Sequence[str], body: bytes) -> str | None:
    """Run the command with `body` on its standard input; why that failed, None where it did not."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            # the terminal's interrupt is llamatop's
            start_new_session=True,
        )
    except OSError as error:
        return f"{argv[0]}: {(error.strerror or 'it cannot be run').lower()}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the alerts
        return f"{argv[0]} cannot be run ({type(error).__name__})"
    try:
        async with asyncio.timeout(DELIVERY_SECONDS):
            await process.communicate(body)
    except TimeoutError:
        return f"{argv[0]} did not end within {DELIVERY_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001
        return f"{argv[0]} cannot be told ({type(error).__name__})"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # its children too
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return None if process.returncode == 0 else f"{argv[0]} ended with {process.returncode}"


async def to_webhook(url: str, body: bytes) -> str | None:
    """POST `body` as JSON; why that failed, None where it did not. The URL may be a secret."""
    headers = {"Content-Type": "application/json"}
    try:
        import httpx

        async with (
            asyncio.timeout(DELIVERY_SECONDS),
            httpx.AsyncClient(timeout=DELIVERY_SECONDS) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except TimeoutError:
        return f"the webhook did not answer within {DELIVERY_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001 - a proxy of the environment breaks it in any way
        # Only its kind: what it says may hold an address.
        return f"the webhook cannot be reached ({type(error).__name__})"
    return None if status < 300 else f"the webhook answered with HTTP {status}"
