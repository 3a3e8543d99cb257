"""What a llama-server was told that decides how much memory it takes. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

# fields of Launch that hold a value
FLAGS = {
    "cache_type_k": ("-ctk", "--cache-type-k", "LLAMA_ARG_CACHE_TYPE_K"),
    "cache_type_v": ("-ctv", "--cache-type-v", "LLAMA_ARG_CACHE_TYPE_V"),
    "batch_tokens": ("-b", "--batch-size", "LLAMA_ARG_BATCH"),
    "ubatch_tokens": ("-ub", "--ubatch-size", "LLAMA_ARG_UBATCH"),
}
NUMBERS = ("batch_tokens", "ubatch_tokens")
_SWITCHES = {
    "kv_unified": (("-kvu", "--kv-unified"), ("-no-kvu", "--no-kv-unified"), "KV_UNIFIED"),
    "kv_offload": (("-kvo", "--kv-offload"), ("-nkvo", "--no-kv-offload"), "KV_OFFLOAD"),
    "window_full": (("--swa-full",), (), "SWA_FULL"),
}
# each loads something more, or puts tensors elsewhere than the layers' split says
_EXTRAS = (
    (("-mm", "--mmproj", "-mmu", "--mmproj-url"), "MMPROJ"),
    (("-md", "--model-draft", "--spec-draft-model"), "SPEC_DRAFT_MODEL"),
    (("-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf"), "SPEC_DRAFT_HF_REPO"),
    (("-ot", "--override-tensor"), "OVERRIDE_TENSOR"),
    (("-cmoe", "--cpu-moe"), "CPU_MOE"),
    (("-ncmoe", "--n-cpu-moe"), "N_CPU_MOE"),
    (("--lora", "--lora-scaled"), "LORA"),
    (("--control-vector", "--control-vector-scaled"), "CONTROL_VECTOR"),
    (("--rpc",), "RPC"),
    (("--spec-type",), "SPEC_TYPE"),
)
# kinds of speculation that load nothing
_LIGHT = ("none", "ngram")
SWITCHES = frozenset(
    [flag for on, off, _ in _SWITCHES.values() for flag in (*on, *off)]
    + [flag for flags, _ in _EXTRAS for flag in flags]
    + ["-fa"]
)
_TRUE = ("1", "true", "on", "enabled")
_FALSE = ("0", "false", "off", "disabled")


def describe(arguments: List[str], variables: Dict[str, str]) -> Dict[str, Any]:
    """Launch fields of switches; a flag wins over its variable, the last flag over others."""
    told: Dict[str, Any] = {}
    for field, (on, off, variable) in _SWITCHES.items():
        given = variables.get("LLAMA_ARG_" + variable, "").lower()
        if given in _TRUE or given in _FALSE:
            told[field] = given in _TRUE
        if "LLAMA_ARG_NO_" + variable in variables:
            told[field] = False
        for word in arguments:
            if word in on or word in off:
                told[field] = word in on
    told["flash_attention"] = _flash_attention(arguments, variables)
    extras = []
    for flags, variable in _EXTRAS:
        named = variables.get("LLAMA_ARG_" + variable) or variables.get("LLAMA_" + variable)
        places = [place for place, word in enumerate(arguments) if word.partition("=")[0] in flags]
        if flags == ("--spec-type",):
            value = _value(arguments, places[-1]) if places else named or ""
            if all(kind.strip().startswith(_LIGHT) for kind in value.split(",")) or not value:
                continue
        if named or places:
            extras.append(flags[1] if len(flags) > 1 and flags[1][:2] == "--" else flags[0])
    if extras:
        told["extras"] = extras
    return told


def projecting(told: Dict[str, Any]) -> Dict[str, Any]:
    """Launch fields with the projector that llama-server has loaded, told to or not."""
    extras = told.get("extras") or []
    return told if "--mmproj" in extras else {**told, "extras": [*extras, "--mmproj"]}


def _value(arguments: List[str], place: int) -> str:
    _, equals, given = arguments[place].partition("=")
    return given if equals else (arguments[place + 1 : place + 2] or [""])[0]


def _flash_attention(arguments: List[str], variables: Dict[str, str]) -> str | None:
    """`on`, `off` or `auto`; older builds take the flag without a value."""
    value = variables.get("LLAMA_ARG_FLASH_ATTN")
    for position, word in enumerate(arguments):
        if word.partition("=")[0] in ("-fa", "--flash-attn"):
            following = _value(arguments, position)
            value = "on" if following[:1] in ("", "-") else following
    if value is None:
        return None
    if value.lower() in _TRUE:
        return "on"
    return "off" if value.lower() in _FALSE else value.lower()[:8]
