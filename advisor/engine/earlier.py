"""Documents of an earlier layout, brought to today's; nothing else knows that there was one."""

from typing import Any

import msgspec

from advisor.engine.record import RecordKind

#: The key of what a command alone is asked, and the field of `command` in which it stood; None
#: where its fields stood there one by one.
_MOVED: dict[RecordKind, tuple[str, str | None]] = {
    "run": ("scenario", "scenario"),
    "lr-range": ("range", None),
    "prediction": ("cards", None),
    "self-comparison": ("micro_batch_size", "micro_batch_size"),
}
#: The limits that stood there likewise.
_LIMITS = ("budget_s", "max_micro_batch_size", "batch_multiple")


def bring_up_to_date(content: bytes, kind: RecordKind) -> bytes:
    """Return the document in today's layout, byte for byte where it has that."""
    try:
        return _bring_up_to_date(content, kind)
    except (AttributeError, KeyError, TypeError, msgspec.MsgspecError, RecursionError):
        return content  # in no layout at all: whoever reads it next says where


def _bring_up_to_date(content: bytes, kind: RecordKind) -> bytes:
    document = msgspec.json.decode(content, type=dict[str, Any])
    command = document.get("command", {})
    if kind not in _MOVED or ("scenario" not in command and "limits" in command):
        return content
    key, field = _MOVED[kind]
    document[key] = command.get(field) if field else command
    limits = {name: command[name] for name in _LIMITS if name in command}
    limits = command.get("limits", limits)
    if command.get("headroom_bytes") is None:
        command = {name: value for name, value in command.items() if name != "headroom_bytes"}
    seen = (batches.get("curvature") for batches in document.get("noise_batches", ()))
    document["sharpness"] = [sharpness for sharpness in seen if sharpness]
    return msgspec.json.encode({**document, "command": {**command, "limits": limits}})
