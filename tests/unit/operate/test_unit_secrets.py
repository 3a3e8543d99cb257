"""A unit's text as it may be shown: no key, however it is written."""

from __future__ import annotations

import pytest

from llamatop.operate.unit_copy import Source
from llamatop.operate.unit_secrets import Shown

HEAD = "[Service]\nUser=llama\n"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("ExecStart=/l --api-key \\\n  hunter22 -c 4", "ExecStart=/l --api-key \\\n  *** -c 4"),
        ("ExecStart=/l --api-key \\\n# x\n  hunter22", "ExecStart=/l --api-key \\\n# ***\n  ***"),
        ("ExecStart=/l --api-key hunter22,hunter33", "ExecStart=/l --api-key ***"),
        ("ExecStart=/l --api-key=hunter22,k", "ExecStart=/l --api-key=***"),
        ("ExecStart=/l --api-key /hunter22", "ExecStart=/l --api-key ***"),
        ("ExecStart=/l --api-key -hunter22 -c 4", "ExecStart=/l --api-key *** -c 4"),
        ("ExecStart=/l --api-key k -c 4", "ExecStart=/l --api-key *** -c 4"),
        ("ExecStart=/l --hf-token /hunter22", "ExecStart=/l --hf-token ***"),
        ("ExecStart=/l -hft \\\n hunter22", "ExecStart=/l -hft \\\n ***"),
        ("ExecStart=/env LLAMA_API_KEY=/hunter22 /l", "ExecStart=/env LLAMA_API_KEY=*** /l"),
        ("ExecStart=/d --env=LLAMA_API_KEY=a,hunter22", "ExecStart=/d --env=LLAMA_API_KEY=***"),
        ("Environment=LLAMA_API_KEY=k1,k2 A=b", "Environment=LLAMA_API_KEY=*** A=b"),
        ('Environment="LLAMA_API_KEY=a hunter22" A=b', 'Environment="LLAMA_API_KEY=***" A=b'),
        ("Environment='HF_TOKEN=-hunter22'", "Environment='HF_TOKEN=***'"),
        ("Environment='O=--api-key /hunter22 -c 4'", "Environment='O=--api-key *** -c 4'"),
        ('Environment=O="-c 4 --api-key -hunter22"', 'Environment=O="-c 4 --api-key ***"'),
        (
            "ExecStartPre=/bin/sh -c 'K=1 x --api-key \"a hunter22\"'",
            "ExecStartPre=/bin/sh -c 'K=1 x --api-key ***'",
        ),
        ("SetCredential=key:hunter22", "SetCredential=***"),
        ("ExecStart=/l --api-key-file /etc/keys", "ExecStart=/l --api-key-file /etc/keys"),
        ("ExecStart=/l --cache-type-k q8_0 -c 4", "ExecStart=/l --cache-type-k q8_0 -c 4"),
        ("Environment=LLAMA_ARG_SSL_KEY_FILE=/k", "Environment=LLAMA_ARG_SSL_KEY_FILE=/k"),
    ],
)
def test_each_spelling(written: str, shown: str) -> None:
    text = f"{HEAD}{written}\nRestart=always\n"
    source = Source("a.service", (("/etc/a.service", text),))
    assert Shown([source])(text) == f"{HEAD}{shown}\nRestart=always\n"


def test_both_elements_quoted() -> None:
    text = f'{HEAD}ExecStart=/l "--api-key" "k l" --port 1\n'
    shown = Shown([Source("a.service", (("/etc/a.service", text),))])(text)
    assert "k l" not in shown
    assert "--port 1" in shown


def test_a_key_is_hidden_in_other_places_too() -> None:
    text = f"{HEAD}# was hunter22\nExecStart=/l --api-key=zz,hunter22\nExecStop=/x $K hunter33\n"
    source = Source("a.service", (("/etc/a.service", text),), {"MY_TOKEN": "hunter33"})
    shown = Shown([source])(text)
    assert "hunter" not in shown
    assert "# was ***\n" in shown
