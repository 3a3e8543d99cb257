"""Another unit's file from the text of one that runs: other cards, another port, all else as it is.

Pure. What cannot be rewritten with certainty is refused, with why: a wrong unit never gets written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from llamatop.errors import Refused
from llamatop.probe import launch, unit_text

from .unit_places import Line, Word, sets_environment, settings, variables_of, words_of

MADE = "# Made by llamatop from "
CARDS = "CUDA_VISIBLE_DEVICES"
_SPLIT = {
    "-sm", "--split-mode", "-ts", "--tensor-split", "-mg", "--main-gpu", "-dev", "--device",
}  # fmt: skip
_SPLIT_VARIABLES = ("SPLIT_MODE", "TENSOR_SPLIT", "MAIN_GPU", "DEVICE")
_ENGINE = re.compile(r"llama-server([-._].*)?$")
_BY_NAME = re.compile(r"\b(pkill|killall)\b")
_PREFIXES = "@-:+!|"
_PLAIN = re.compile(r"[A-Za-z0-9:_.@/-]*")


class Source(Struct, frozen=True):
    """A unit as it is on the node: its file, then its drop-ins, as (path, text).

    `environment` holds its EnvironmentFile= variables, None where one of them cannot be read.
    """

    unit: str
    files: tuple[tuple[str, str], ...]
    environment: Mapping[str, str] | None = field(default_factory=dict)


class Wanted(Struct, frozen=True):
    """What is to differ: the new unit's name, its cards as CUDA_VISIBLE_DEVICES, and its port."""

    unit: str
    cards: str
    port: int


def copy(source: Source, wanted: Wanted) -> str:
    """The text of the new unit's one file; raises Refused where it is not certain.

    Drop-ins become part of it, except those that systemd reads for the new name as well.
    """
    own = [pair for pair in source.files if not _reaches(pair[0], wanted.unit)]
    foreign = [text for path, text in source.files if _reaches(path, wanted.unit)]
    if not own:
        raise Refused(f"{source.unit} has no unit file of its own to make another from")
    pieces = [f"{MADE}{source.unit}: {CARDS}={wanted.cards}, port {wanted.port}\n"]
    for number, (path, text) in enumerate(own):
        text = text if text.endswith("\n") else text + "\n"
        pieces.append(f"\n# {path}\n{text}" if number else text)
    text = _renamed("".join(pieces), source.unit)
    _own(source.unit, text)
    variables = {name for one in foreign for name in variables_of([one])}
    from_files = source.environment or {}
    certain = source.environment is not None
    outside = variables | set(from_files)
    text = _environment(text, wanted)
    text = _command(text, wanted, outside, certain)
    text = _install(text)
    _check(source, [text, *foreign], wanted)
    return text


def alike(source: Source) -> tuple[list[str], dict[str, str]]:
    """How a unit starts its server, cards, port and split aside: its words and its variables."""
    texts = [text for _, text in source.files]
    found = launch.find(unit_text.exec_start(texts, source.unit))
    variables = {**variables_of(texts), **(source.environment or {})}
    words = list(found.arguments) if found else []
    kept: list[str] = []
    while words:
        flag, equals, _ = words[0].partition("=")
        if flag in {*_SPLIT, "--port", "--log-file"}:
            del words[: 1 if equals else 2]
        else:
            kept.append(words.pop(0))
    names = {CARDS, "LLAMA_ARG_PORT", *(f"LLAMA_ARG_{name}" for name in _SPLIT_VARIABLES)}
    return kept, {name: value for name, value in variables.items() if name not in names}


def naming(text: str, port: int) -> list[str]:
    """The settings that still name a port, ExecStart= aside: a check of its health, for example."""
    found = (
        line.name
        for line in settings(text)
        if line.name != "ExecStart" and re.search(rf"\b{port}\b", text[line.start : line.end])
    )
    return list(dict.fromkeys(found))


def _reaches(path: str, unit: str) -> bool:
    """Whether a drop-in is read for this unit too, by its directory's name."""
    folder = path.rpartition("/")[0].rpartition("/")[2]
    if not folder.endswith(".service.d") and folder != "service.d":
        return False
    begin = folder.removesuffix("service.d").removesuffix(".")
    stem = unit.removesuffix(".service")
    return not begin or begin == stem or (begin[-1] in "-@" and stem.startswith(begin))


def _renamed(text: str, unit: str) -> str:
    """Specifiers of the old unit's name as what they stood for: the new name is another one."""
    values = unit_text.named_after(unit)

    def stands_for(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None:
            return match[0]
        if not _PLAIN.fullmatch(value):
            raise Refused(f"{unit}: %{match[1]} stands for {value!r}, which cannot be written out")
        return value

    lines = text.split("\n")
    return "\n".join(
        line if line.lstrip()[:1] in ("#", ";") else re.sub(r"%(.)", stands_for, line)
        for line in lines
    )


def _own(unit: str, text: str) -> None:
    """Refuse what the old unit would take from the new ones when it stops."""
    values = {
        one.name: text[one.start : one.end].strip()
        for one in settings(text)
        if one.section == "[Service]"
    }
    kept = values.get("RuntimeDirectoryPreserve", "").lower() in ("yes", "true", "on", "1")
    if values.get("RuntimeDirectory") and not kept:
        raise Refused(
            f"{unit} has RuntimeDirectory=, which systemd removes when {unit} stops, under the new"
            " unit too: set RuntimeDirectoryPreserve=yes there first"
        )
    for one in settings(text):
        if one.name in ("ExecStop", "ExecStopPost") and _BY_NAME.search(text, one.start, one.end):
            raise Refused(
                f"{unit} has {one.name}= with pkill or killall, which ends processes by their name,"
                " the new ones too: leave it out, systemd stops a unit's own processes"
            )


def _environment(text: str, wanted: Wanted) -> str:
    """The cards and the port in Environment= where they stand there, what splits left out."""
    for line in reversed([one for one in settings(text) if sets_environment(one)]):
        words = words_of(text, line)
        for word in reversed(words):
            name = word.value.partition("=")[0]
            if name == CARDS:
                text = _put(text, word, f"{CARDS}={wanted.cards}")
            elif name == "LLAMA_ARG_PORT":
                text = _put(text, word, f"{name}={wanted.port}")
            elif name in {f"LLAMA_ARG_{one}" for one in _SPLIT_VARIABLES}:
                if len(words) == 1:
                    text = text[: line.begin] + text[line.end + 1 :]
                else:
                    text = text[: word.start] + text[word.end :].lstrip(" \t")
    return text


def _put(text: str, word: Word, value: str) -> str:
    quote = text[word.start] if text[word.start] in "'\"" else ""
    return text[: word.start] + quote + value + quote + text[word.end :]


def _command(text: str, wanted: Wanted, outside: set[str], certain: bool) -> str:
    """ExecStart= with the port, without what splits, and with the cards where only it decides."""
    line = _start_line(text)
    words = words_of(text, line)
    engine = next((n for n, w in enumerate(words) if _is_engine(w.value, n)), None)
    if engine is None:
        raise Refused(
            "llama-server is no word of its own in ExecStart= (a shell or a script starts it), so"
            " its flags cannot be rewritten"
        )
    named = {
        name: word
        for word in words[:engine]
        for name in (word.value.partition("=")[0],)
        if "=" in word.value
    }
    sets = any(
        word.value.startswith(f"{CARDS}=")
        for one in settings(text)
        if sets_environment(one)
        for word in words_of(text, one)
    )
    takes = [n for n in outside if n in {f"LLAMA_ARG_{one}" for one in _SPLIT_VARIABLES}]
    wraps = CARDS not in named and (CARDS in outside or not certain or bool(takes))
    text = _flags(text, words, engine, wanted, port_given=_port_in_environment(text, outside))
    if CARDS in named:
        text = _put(text, named[CARDS], f"{CARDS}={wanted.cards}")
    elif wraps:
        unset = (
            _SPLIT_VARIABLES if not certain else [one.removeprefix("LLAMA_ARG_") for one in takes]
        )
        before = ["/usr/bin/env", *(f"--unset=LLAMA_ARG_{one}" for one in unset)]
        first = words[0]
        marks = len(first.value) - len(first.value.lstrip(_PREFIXES))
        if "@" in first.value[:marks] or text[first.start] in "'\"":
            raise Refused(f"{first.value}: what starts it cannot be put behind env")
        place = first.start + marks
        text = text[:place] + " ".join([*before, f"{CARDS}={wanted.cards}", ""]) + text[place:]
    elif not sets:
        text = f"{text[: line.begin]}Environment={CARDS}={wanted.cards}\n{text[line.begin :]}"
    return text


def _port_in_environment(text: str, outside: set[str]) -> bool:
    if "LLAMA_ARG_PORT" in outside:
        return False
    return any(
        word.value.startswith("LLAMA_ARG_PORT=")
        for one in settings(text)
        if sets_environment(one)
        for word in words_of(text, one)
    )


def _start_line(text: str) -> Line:
    found = [one for one in settings(text) if (one.section, one.name) == ("[Service]", "ExecStart")]
    if not found or not text[found[-1].start : found[-1].end].strip():
        raise Refused("the unit has no ExecStart= of its own")
    return found[-1]


def _is_engine(value: str, number: int) -> bool:
    value = value.lstrip(_PREFIXES) if number == 0 else value
    return " " not in value and _ENGINE.match(value.rpartition("/")[2]) is not None


def _flags(text: str, words: Sequence[Word], engine: int, wanted: Wanted, port_given: bool) -> str:
    """The server's own flags, from the last to the first so that the places stay right."""
    found: list[tuple[int, int, str]] = []
    number = engine + 1
    port = False
    while number < len(words):
        word = words[number]
        flag, equals, _ = word.value.partition("=")
        step = 1 if equals else 2
        last = words[min(number + step - 1, len(words) - 1)]
        if flag in _SPLIT:
            found.append((_before(text, words[number - 1], word), last.end, ""))
        elif flag == "--port":
            port = True
            value = f"--port={wanted.port}" if equals else str(wanted.port)
            found.append((last.start, last.end, value))
        elif flag == "--log-file" and not equals and last is not word:
            found.append((last.start, last.end, _own_log(text[last.start : last.end], wanted)))
        else:
            step = 1
        number += step
    if not port and not port_given:
        found.append((words[-1].end, words[-1].end, f" --port {wanted.port}"))
    for start, end, value in sorted(found, reverse=True):
        text = text[:start] + value + text[end:]
    return text


def _before(text: str, previous: Word, word: Word) -> int:
    """From where a word goes: with the blanks before it, unless a comment stands among them."""
    gap = text[previous.end : word.start]
    return word.start if any(sign in gap for sign in "#;") else previous.end


def _own_log(value: str, wanted: Wanted) -> str:
    """A log file of its own beside the old one."""
    stem = unit_stem(wanted.unit)
    folder, slash, name = value.rpartition("/")
    return f"{folder}{slash}{stem}-{name}" if name[:1] not in "'\"" else value


def unit_stem(unit: str) -> str:
    """The name without `.service`."""
    return unit.removesuffix(".service")


def _install(text: str) -> str:
    """Without Alias=: two units enabled cannot have one name."""
    for line in reversed(list(settings(text))):
        if (line.section, line.name) == ("[Install]", "Alias"):
            text = text[: line.begin] + text[line.end + 1 :]
    return text


def _check(source: Source, texts: Sequence[str], wanted: Wanted) -> None:
    """Read the result as the probe would: it says what was wanted, and nothing that splits."""
    variables = {**variables_of(texts), **(source.environment or {})}
    words = unit_text.exec_start(list(texts), wanted.unit)
    found = launch.find(unit_text.expanded(words, variables))
    if found is None:
        raise Refused(f"{source.unit}: no llama-server is found in what would start it")
    if any(word in ("/usr/bin/env", "env") for word in words[:1]):
        for word in words[1:]:
            variables.pop(word.removeprefix("--unset="), None)
    told = launch.describe(found, variables)
    wrong = []
    if found.engine != "llama-server":
        wrong.append(f"it starts {found.engine}, and only llama-server is known well enough")
    if told.get("port") != wanted.port:
        wrong.append(f"its port would be {told.get('port')}, not {wanted.port}")
    if told.get("cuda_visible_devices") != wanted.cards:
        wrong.append(f"{CARDS} would be {told.get('cuda_visible_devices')}, not {wanted.cards}")
    for name in ("split_mode", "tensor_split", "main_gpu", "devices"):
        if told.get(name) is not None:
            wrong.append(f"{name.replace('_', ' ')} would still be {told[name]}")
    if str(told.get("host", "")).endswith(".sock"):
        wrong.append("it listens on a socket file")
    if source.environment is None and any("$" in word for word in words):
        wrong.append("its command line takes words from an EnvironmentFile= that cannot be read")
    if wrong:
        raise Refused(f"{source.unit} cannot be rewritten with certainty: {'; '.join(wrong)}")
