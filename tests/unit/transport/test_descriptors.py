"""A process that may open no further file says so, and how to allow it more."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from llamatop.errors import Unreachable
from llamatop.model.plan import Command
from llamatop.transport.ssh import SshMachine


@contextmanager
def no_more_files() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = os.open("/dev/null", os.O_RDONLY)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
        yield least
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(least)


async def test_out_of_file_descriptors() -> None:
    machine = SshMachine("node1", "127.0.0.1")
    with no_more_files() as limit, pytest.raises(Unreachable) as caught:
        await machine.run(Command(("true",)))
    await machine.close()
    text = str(caught.value)
    assert f"llamatop may open only {limit} files and connections" in text
    assert "ulimit -n 4096" in text
