"""The text of systemd: `systemctl show` blocks, unit files, quoting, environment files. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List

_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "s": " ",
    "\\": "\\",
    '"': '"',
    "'": "'",
}
# What a shell takes a backslash before, and `systemctl show` puts one before.
_SHELL = "$`"
_PREFIXES = "@-:+!|"


def blocks(output: str) -> Dict[str, Dict[str, str]]:
    """`systemctl show` of several units by Id; a property given again adds a line to its value."""
    found: Dict[str, Dict[str, str]] = {}
    for block in output.split("\n\n"):
        properties: Dict[str, str] = {}
        for line in block.split("\n"):
            name, equals, value = line.partition("=")
            if equals and name in properties:
                properties[name] += "\n" + value
            elif equals:
                properties[name] = value
        if properties.get("Id"):
            found[properties["Id"]] = properties
    return found


def words(line: str, escaped: str = "") -> List[str]:
    """A line split as systemd splits command lines: quotes and C escapes; never raises.

    A backslash before one of the letters `escaped` is taken away too.
    """
    found: List[str] = []
    word = ""
    inside = False
    quote = ""
    position = 0
    while position < len(line):
        letter = line[position]
        position += 1
        if letter == "\\" and line[position : position + 1] in tuple(escaped):
            word += line[position]
            position += 1
            inside = True
        elif letter == "\\" and position < len(line):
            letter, position = _escape(line, position)
            word += letter
            inside = True
        elif quote:
            if letter == quote:
                quote = ""
            else:
                word += letter
        elif letter in "'\"" and not word:
            quote = letter
            inside = True
        elif letter in "'\"":
            quote = letter
        elif letter.isspace():
            if inside or word:
                found.append(word)
            word, inside = "", False
        else:
            word += letter
            inside = True
    if inside or word:
        found.append(word)
    return found


def _escape(line: str, position: int) -> tuple[str, int]:
    letter = line[position]
    if letter in _ESCAPES:
        return _ESCAPES[letter], position + 1
    for mark, base, length in (("x", 16, 2), ("u", 16, 4), ("U", 16, 8), ("", 8, 3)):
        if letter == mark or (not mark and letter in "01234567"):
            start = position + len(mark)
            digits = line[start : start + length]
            try:
                if len(digits) == length:
                    return chr(int(digits, base)), start + length
            except (ValueError, OverflowError):
                pass
            break
    return "\\" + letter, position + 1


def assignments(line: str) -> Dict[str, str]:
    """`Environment=` as `systemctl show` prints it: words NAME=VALUE, others are ignored."""
    found: Dict[str, str] = {}
    for word in words(line, _SHELL):
        name, equals, value = word.partition("=")
        if equals and name:
            found[name] = value
    return found


def without(environment: Dict[str, str], line: str) -> Dict[str, str]:
    """What `UnsetEnvironment=` leaves: it takes a NAME, or a NAME=VALUE that is the same."""
    gone = words(line, _SHELL)
    return {
        name: value
        for name, value in environment.items()
        if name not in gone and "%s=%s" % (name, value) not in gone
    }


def environment_file(text: str) -> Dict[str, str]:
    """A file of `EnvironmentFile=`: lines NAME=VALUE, # and ; comments, quotes, continuations."""
    found: Dict[str, str] = {}
    for line in _joined(text):
        name, equals, value = line.partition("=")
        name = name.strip()
        if equals and name and not any(letter.isspace() for letter in name):
            value = value.strip()
            found[name] = _unquoted(value)
    return found


def _unquoted(value: str) -> str:
    if value[:1] in ("'", '"'):
        parts = words(value, _SHELL)
        return parts[0] if parts else ""
    return value.replace("\\", "") if "\\" in value else value


def environment_files(value: str) -> List[str]:
    """The paths in `EnvironmentFiles=` as `systemctl show` prints them, one a line."""
    paths = [line.partition(" (ignore_errors=")[0].strip() for line in value.split("\n")]
    return [path for path in paths if path.startswith("/")]


def shown_command(value: str) -> List[str]:
    """The words of the last `ExecStart={ path=… ; argv[]=… ; … }`, parted at every space."""
    _, marked, rest = value.rpartition("\n")[2].partition("argv[]=")
    if not marked:
        return []
    return rest.partition(" ; ")[0].split()


def exec_start(texts: List[str], unit: str) -> List[str]:
    """The words of ExecStart= from a unit file and its drop-ins in order, specifiers filled in.

    An empty assignment forgets the earlier ones; of several commands the last one counts.
    """
    command = ""
    for text in texts:
        section = ""
        for line in _joined(text):
            if line.startswith("["):
                section = line
            elif section == "[Service]":
                name, equals, value = line.partition("=")
                if equals and name.strip() == "ExecStart":
                    command = value.strip()
    found = [_specifiers(word, unit) for word in words(command)]
    if found:
        found[0] = found[0].lstrip(_PREFIXES)
    return found


def _joined(text: str) -> List[str]:
    """Lines with continuations joined, comments and blanks left out, also between continuations."""
    found: List[str] = []
    pending = ""
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped[:1] in ("#", ";") or (not stripped and not pending):
            continue
        if stripped.endswith("\\"):
            pending += stripped[:-1] + " "
            continue
        found.append((pending + stripped).strip())
        pending = ""
    if pending.strip():
        found.append(pending.strip())
    return found


def _specifiers(word: str, unit: str) -> str:
    if "%" not in word:
        return word
    values = {**named_after(unit), "h": "/root", "%": "%"}
    found = ""
    position = 0
    while position < len(word):
        letter = word[position]
        following = word[position + 1 : position + 2]
        if letter == "%" and following in values:
            found += values[following]
            position += 2
        else:
            found += letter
            position += 1
    return found


def named_after(unit: str) -> Dict[str, str]:
    """The specifiers that stand for a unit's own name, each with what it stands for."""
    stem = unit[: -len(".service")] if unit.endswith(".service") else unit
    prefix, _, instance = stem.partition("@")
    return {
        "i": instance,
        "I": _unescaped(instance),
        "j": prefix.rpartition("-")[2],
        "n": unit,
        "N": stem,
        "p": prefix,
        "P": _unescaped(prefix),
        "f": "/" + _unescaped(instance or prefix),
    }


def _unescaped(name: str) -> str:
    """A unit name's part as systemd-escape -u gives it: "-" is "/", \\x2d is "-"."""
    return words("'" + name.replace("-", "/").replace("'", "\\x27") + "'")[0] if name else ""


def expanded(given: List[str], environment: Dict[str, str]) -> List[str]:
    """ExecStart= words with $NAME (split at spaces), ${NAME} and $$ replaced as systemd does."""
    found: List[str] = []
    for word in given:
        if word.startswith("$") and len(word) > 1 and word[1] not in "{$" and "$" not in word[1:]:
            found += words(environment.get(word[1:], ""))
        elif "$" in word:
            found.append(_braces(word, environment))
        else:
            found.append(word)
    return found


def _braces(word: str, environment: Dict[str, str]) -> str:
    found = ""
    while word:
        before, dollar, word = word.partition("$")
        found += before
        if not dollar:
            break
        if word.startswith("{") and "}" in word:
            name, _, word = word[1:].partition("}")
            found += environment.get(name, "")
        elif word.startswith("$"):
            found += "$"
            word = word[1:]
        else:
            found += "$"
    return found
