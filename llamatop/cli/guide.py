"""What `llamatop --help` teaches: where to start, commands by purpose, examples of each."""

START = """\
start here:
  llamatop demo           a cluster to try everything on; touches nothing else
  llamatop node1 node2    the dashboard over two machines, by their ssh names
  llamatop discover node1 node2 -o cluster.toml
                          write down what is there; then `llamatop` opens it
"""

GROUPS = (
    ("look", ("dashboard", "status", "watch", "logs", "doctor", "replay")),
    (
        "change (each shows its plan and asks first)",
        (
            "start",
            "stop",
            "restart",
            "enable",
            "disable",
            "drain",
            "undrain",
            "roll",
            "undo",
            "recover",
            "split",
            "unsplit",
        ),
    ),
    ("set up", ("demo", "discover", "schema", "sudoers", "completion")),
)

EXIT_STATUS = """\
exit status:
  0 fine   1 something is unhealthy, or a plan failed   2 wrong usage or file
  3 nothing could be reached   4 refused by a guard   5 declined
  70 a fault of llamatop itself   130 interrupted, after rolling back

Every command has its own help with examples: llamatop drain --help
A host that is called like a command: llamatop -- status
"""

EXAMPLES = {
    "dashboard": (
        "llamatop                          ./cluster.toml, else your own file",
        "llamatop node1 ops@10.0.0.12      two machines, without any file",
        "llamatop -c lab.toml --read-only  look, and be offered no actions",
        "llamatop --record night.rec       and keep what is seen, for `llamatop replay`",
    ),
    "status": (
        "llamatop status || echo unhealthy",
        "llamatop status --json | jq .totals",
    ),
    "watch": (
        "llamatop watch --json --count 60 | jq .totals",
        "llamatop watch --auto-drain   a service: dead members go out, and come back",
    ),
    "doctor": (
        "llamatop doctor                   silent where all is well",
        "llamatop doctor --json | jq -r '.findings[] | .place + \"  \" + .evidence'",
    ),
    "logs": ("llamatop logs node1/gpu0 -f",),
    "start": ("llamatop start node1/gpu0", "llamatop start 'node2/*' --yes"),
    "stop": (
        "llamatop stop node1/gpu0          drained first, where it serves",
        "llamatop stop node1/gpu0 --now    the plan says how many requests that cuts",
    ),
    "restart": ("llamatop restart 'node1/*' --yes",),
    "enable": ("llamatop enable node1/gpu0",),
    "disable": ("llamatop disable node1/gpu0",),
    "drain": (
        "llamatop drain node1/gpu0 --dry-run      the exact commands and the diff",
        "llamatop drain node1/gpu0 --timeout 600",
    ),
    "undrain": ("llamatop undrain node1/gpu0",),
    "roll": (
        "llamatop roll                            every worker, one after another",
        "llamatop roll 'node1/*' --at-once 2 --keep 2",
    ),
    "undo": ("llamatop undo --dry-run",),
    "split": ("llamatop split node1/gpu0 node1/gpu1     one process over both GPUs",),
    "unsplit": (
        "llamatop unsplit node1/big --dry-run     the new unit files, and nginx's diff",
        "llamatop unsplit node1/big",
    ),
    "recover": ("llamatop recover --yes",),
    "replay": (
        "llamatop --record night.rec               any command that reads makes one",
        "llamatop replay night.rec",
        "llamatop replay night.rec --json | jq .totals",
    ),
    "demo": (
        "llamatop demo --nodes 4 --gpus 8",
        "llamatop demo --fault hot-gpu",
        "llamatop demo --write /tmp/demo   and in another terminal:",
        "llamatop status -c /tmp/demo/cluster.toml",
    ),
    "discover": (
        "llamatop discover node1 node2                    on standard output",
        "llamatop discover node1 node2 -o cluster.toml",
    ),
    "schema": ("llamatop schema > cluster.schema.json",),
    "sudoers": (
        "llamatop sudoers --user ops --node node1 > llamatop.sudoers",
        "llamatop sudoers --user ops --write-units    for split and unsplit, too",
    ),
    "completion": (
        "bash   llamatop completion bash > \\",
        "         ~/.local/share/bash-completion/completions/llamatop",
        "zsh    llamatop completion zsh > ~/.zfunc/_llamatop   (~/.zfunc in fpath)",
        "fish   llamatop completion fish > ~/.config/fish/completions/llamatop.fish",
    ),
}
