"""A llama-server of a node: its unit as people write it."""

from __future__ import annotations

from dataclasses import dataclass

_UNIT = """[Unit]
Description=llama-server on GPU {gpus}
After=network.target
StartLimitIntervalSec=0

[Service]
User=llama
Environment=CUDA_VISIBLE_DEVICES={gpus}
Environment=LD_LIBRARY_PATH=/opt/llama
{environment}ExecStart=/opt/llama/llama-server {arguments}
Restart=on-failure
RestartSec=1

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Worker:
    """One worker: on `gpus` ("0" or "0,1"), `parallel` slots that share `context` tokens.

    `model` is tiny (thousands of tokens a second), steady (tens a slot) or heavy (seconds to
    load); None leaves it out, as router mode does (`extra` then names --models-dir /opt/models).
    `environment` are whole Environment= or EnvironmentFile= lines.
    """

    unit: str
    port: int
    gpus: str = "0"
    model: str | None = "steady"
    parallel: int = 2
    context: int = 8192
    metrics: bool = True
    host: str = "127.0.0.1"
    extra: str = ""
    environment: tuple[str, ...] = ()

    def text(self) -> str:
        """The unit file."""
        arguments = f"--model /opt/models/{self.model}.gguf " if self.model else ""
        arguments += f"--host {self.host} --port {self.port} --parallel {self.parallel} "
        # Prompts that wait in memory to be asked again would fill the machine in a long run.
        arguments += f"-c {self.context} --threads 1 --cache-ram 0"
        arguments += " --metrics" if self.metrics else ""
        arguments += f" {self.extra}" if self.extra else ""
        return _UNIT.format(
            gpus=self.gpus,
            arguments=arguments,
            environment="".join(f"{line}\n" for line in self.environment),
        )
