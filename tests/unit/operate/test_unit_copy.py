"""Another unit's text from one that is there: what differs, and that nothing else does."""

from __future__ import annotations

import pytest

from llamatop.errors import Refused
from llamatop.operate.unit_copy import Source, Wanted, alike, copy, naming

ETC = "/etc/systemd/system"
GPU0 = Wanted("llama-server-gpu0.service", "0", 37090)

SIMPLE = """[Unit]
Description=llama-server on both
After=network-online.target nvidia-persistenced.service

[Service]
User=llama
Environment=CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0,1
ExecStart=/opt/llama/llama-server -m /models/a.gguf --port 37081 -sm layer -ts 1,1 -np 4
Restart=always

[Install]
WantedBy=multi-user.target
"""
# As people write them: continued lines with a comment among them, quotes, odd spacing.
LONG = """# ours
[Service]
Environment="CUDA_VISIBLE_DEVICES=0,1" "LLAMA_ARG_MAIN_GPU=1" 'NOTE=a b'
ExecStart=/usr/bin/numactl --cpunodebind=0 /opt/llama/llama-server \\
    --model "/models/my model.gguf" \\
    # the port of the field
    --port 37081 \\
    --tensor-split 3,1 \\
    --chat-template-kwargs '{"enable_thinking": false}' \\
    --alias big
Restart=on-failure
"""
TEMPLATE = """[Unit]
Description=llama-server %i of %p

[Service]
EnvironmentFile=/etc/llama/%i.env
Environment=LD_LIBRARY_PATH=/opt/100%%/llama
ExecStart=/opt/llama/llama-server --model ${MODEL} --port ${PORT} $OPTIONS --log-file /var/log/l.log
"""


def made(text: str, wanted: Wanted = GPU0, unit: str = "llama-server-big.service") -> str:
    first, _, rest = copy(Source(unit, ((f"{ETC}/{unit}", text),)), wanted).partition("\n")
    assert first == (
        f"# Made by llamatop from {unit}: CUDA_VISIBLE_DEVICES={wanted.cards}, port {wanted.port}"
    )
    return rest


def test_the_cards_and_the_port_differ_and_the_split_goes() -> None:
    assert made(SIMPLE) == SIMPLE.replace("=0,1", "=0").replace("37081", "37090").replace(
        " -sm layer -ts 1,1", ""
    )


def test_back_over_the_cards() -> None:
    single = made(SIMPLE)
    joined = made(single, Wanted("llama-server-gpu0-1.service", "0,1", 37099))
    assert joined == single.replace("=0\n", "=0,1\n").replace("37090", "37099")


def test_continued_lines_quotes_and_comments_stay_byte_for_byte() -> None:
    expected = LONG.replace('"CUDA_VISIBLE_DEVICES=0,1" "LLAMA_ARG_MAIN_GPU=1" ', "@").replace(
        "@", '"CUDA_VISIBLE_DEVICES=0" '
    )
    expected = expected.replace("37081", "37090").replace(" \\\n    --tensor-split 3,1", "")
    assert made(LONG) == expected


def test_a_template_with_its_environment_file_gets_what_the_instance_had() -> None:
    unit = "llama-server@big.service"
    files = (
        (f"{ETC}/llama-server@.service", TEMPLATE),
        (f"{ETC}/llama-server@.service.d/nice.conf", "[Service]\nNice=5"),
        (f"{ETC}/llama-server@big.service.d/own.conf", "[Service]\nCPUQuota=%i0%%\n"),
        (f"{ETC}/service.d/all.conf", "[Service]\nOOMPolicy=continue\n"),
    )
    environment = {
        "MODEL": "/models/a.gguf",
        "PORT": "37081",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "LLAMA_ARG_TENSOR_SPLIT": "1,1",
        "OPTIONS": "-c 4096",
    }
    text = copy(Source(unit, files, environment), GPU0)
    body = TEMPLATE.replace("%i", "big").replace("%p", "llama-server").replace("${PORT}", "37090")
    body = body.replace(
        "ExecStart=/opt",
        "ExecStart=/usr/bin/env --unset=LLAMA_ARG_TENSOR_SPLIT CUDA_VISIBLE_DEVICES=0 /opt",
    ).replace("/var/log/l.log", "/var/log/llama-server-gpu0-l.log")
    assert text.partition("\n")[2] == (
        f"{body}\n# {ETC}/llama-server@.service.d/nice.conf\n[Service]\nNice=5\n"
        f"\n# {ETC}/llama-server@big.service.d/own.conf\n[Service]\nCPUQuota=big0%%\n"
    )


def test_a_drop_in_that_the_new_unit_has_anyway_is_not_doubled_but_reckoned_with() -> None:
    files = (
        (f"{ETC}/llama-server-big.service", SIMPLE.replace(" CUDA_VISIBLE_DEVICES=0,1", "")),
        (
            f"{ETC}/llama-server-.service.d/cards.conf",
            "[Service]\nEnvironment=CUDA_VISIBLE_DEVICES=0,1\n",
        ),
    )
    text = copy(Source("llama-server-big.service", files), GPU0)
    assert "cards.conf" not in text
    assert "ExecStart=/usr/bin/env CUDA_VISIBLE_DEVICES=0 /opt/llama/llama-server -m" in text


def test_what_is_not_said_is_added() -> None:
    bare = "[Service]\nExecStart=/opt/llama-server -m a.gguf\n[Install]\nAlias=l.service\n"
    assert made(bare) == (
        "[Service]\nEnvironment=CUDA_VISIBLE_DEVICES=0\n"
        "ExecStart=/opt/llama-server -m a.gguf --port 37090\n[Install]\n"
    )


def test_the_last_start_counts_and_one_of_variables_alone_is_changed_there() -> None:
    text = (
        "[Service]\nExecStart=/opt/llama-server --port 1\nExecStart=\n"
        "Environment=LLAMA_ARG_PORT=37081 LLAMA_ARG_SPLIT_MODE=row\n"
        "Environment=CUDA_VISIBLE_DEVICES=GPU-aa,GPU-bb\n"
        "ExecStart=-/opt/llama-server -m a.gguf --device CUDA0,CUDA1\n"
    )
    wanted = Wanted("x.service", "GPU-bb", 37090)
    assert made(text, wanted) == (
        "[Service]\nExecStart=/opt/llama-server --port 1\nExecStart=\n"
        "Environment=LLAMA_ARG_PORT=37090 \n"
        "Environment=CUDA_VISIBLE_DEVICES=GPU-bb\n"
        "ExecStart=-/opt/llama-server -m a.gguf\n"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[Service]\nExecStart=/bin/sh -c 'llama-server --port 1'\n", "no word of its own"),
        ("[Service]\nExecStart=/opt/start-llama.sh\n", "no word of its own"),
        ("[Service]\nExecStart=/usr/bin/ollama serve\n", "no word of its own"),
        ("[Service]\nUser=x\n", "no ExecStart"),
        (
            "[Service]\nEnvironment=CUDA_VISIBLE_DEVICES=0,1 O='--tensor-split 1,1'\n"
            "ExecStart=/opt/llama-server --port 1 $O\n",
            "tensor split would still be 1,1",
        ),
        ("[Service]\nExecStart=/opt/llama-server --host /run/l.sock --port 1\n", "socket file"),
        (SIMPLE.replace("User=", "RuntimeDirectory=l\nUser="), "RuntimeDirectoryPreserve=yes"),
        (SIMPLE.replace("User=", "ExecStop=-/bin/pkill llama\nUser="), "leave it out"),
    ],
)
def test_what_cannot_be_rewritten_with_certainty_is_refused(text: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        made(text)


def test_a_refusal_says_nothing_of_the_keys() -> None:
    with pytest.raises(Refused) as refused:
        made("[Service]\nExecStart=/bin/sh -c 'llama-server --api-key geheim'\n")
    assert "geheim" not in str(refused.value)


def test_what_the_old_unit_leaves_there_may_be_shared() -> None:
    text = SIMPLE.replace("User=", "RuntimeDirectory=l\nRuntimeDirectoryPreserve=yes\nUser=")
    assert "RuntimeDirectory=l\n" in made(text)


def test_an_environment_file_that_cannot_be_read_decides_nothing() -> None:
    source = Source("a.service", ((f"{ETC}/a.service", SIMPLE),), None)
    text = copy(source, GPU0)
    assert "/usr/bin/env --unset=LLAMA_ARG_SPLIT_MODE" in text
    assert "CUDA_VISIBLE_DEVICES=0 /opt/llama/llama-server" in text
    hidden = SIMPLE.replace("-np 4", "$OPTIONS")
    with pytest.raises(Refused, match="cannot be read"):
        copy(Source("a.service", ((f"{ETC}/a.service", hidden),), None), GPU0)


def test_what_else_names_the_old_port_is_found() -> None:
    text = SIMPLE.replace(
        "Restart",
        "ExecStartPost=/usr/bin/curl -s 127.0.0.1:37081/health\nMemoryMax=370810\nRestart",
    )
    assert naming(made(text), 37081) == ["ExecStartPost"]
    assert naming(made(SIMPLE), 37081) == []


def test_alike_but_for_cards_port_and_split() -> None:
    one, other = (
        Source(f"{n}.service", ((f"{ETC}/{n}.service", text),))
        for n, text in (("a", SIMPLE), ("b", made(SIMPLE)))
    )
    assert alike(one) == alike(other)
    third = Source("c.service", ((f"{ETC}/c.service", SIMPLE.replace("-np 4", "-np 8")),))
    assert alike(one) != alike(third)
