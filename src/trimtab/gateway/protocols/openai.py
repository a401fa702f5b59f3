"""The OpenAI dialect: what the gateway reads in requests and answers, what it changes, and its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from trimtab.errors import Code, TrimtabError
from trimtab.metering.record import Usage

CHAT_PATH = "/chat/completions"

GATEWAY_FIELDS = frozenset({"model", "stream", "stream_options"})
"""Request fields that `parameters` and `overrides` of a deployment cannot set."""
SYSTEM_PROMPT = "system_prompt"
"""Name in `parameters` (used where the caller sends no system message) and `overrides` (takes its place)."""

BYTES_PER_TOKEN = 4
"""For estimates where the upstream reports no usage."""
_MOST_TOKENS = 1_000_000_000

_OWN_CODES = {Code.UNAUTHENTICATED: "invalid_api_key"}
"""Codes for which this dialect has its own word."""


class StreamOptions(msgspec.Struct):
    """The part of `stream_options` that matters here."""

    include_usage: bool | None = None


class ChatRequest(msgspec.Struct):
    """What the gateway needs of a chat request; the rest of the body is not decoded."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None


_decode_chat = msgspec.json.Decoder(ChatRequest).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def read_chat(body: bytes) -> ChatRequest:
    """Read a chat request.

    Raises:
        TrimtabError: INVALID_JSON, or INVALID_REQUEST naming the field at fault.
    """
    try:
        request = _decode_chat(body)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        if "missing required field `model`" in reason:
            where = ".model"
            reason = "The field `model` is missing"
        raise TrimtabError(
            Code.INVALID_REQUEST,
            f"{reason}. The body must be a JSON object as in the chat completions API, with `model` as a string.",
            field=where.strip("`.") or None,
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TrimtabError(Code.INVALID_JSON, f"The body is not valid JSON: {error}.") from None
    if not request.model:
        raise TrimtabError(Code.INVALID_REQUEST, "The field `model` is empty; name the model to call.", field="model")
    return request


class Settings:
    """Parameters or overrides of a deployment, encoded once.

    Parameters:
        values: request fields by name; `system_prompt` stands for a system message.
    """

    __slots__ = ("fields", "system_prompt")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.fields = {
            name: msgspec.Raw(_encode(value))
            for name, value in values.items()
            if name not in GATEWAY_FIELDS and name != SYSTEM_PROMPT
        }
        prompt = values.get(SYSTEM_PROMPT)
        self.system_prompt = (
            None if prompt is None else msgspec.Raw(_encode({"role": "system", "content": str(prompt)}))
        )

    def __bool__(self) -> bool:
        return bool(self.fields) or self.system_prompt is not None


def patch_chat(body: bytes, request: ChatRequest, model: str, parameters: Settings, overrides: Settings) -> bytes:
    """Return the body for the upstream: `body` itself where nothing changes, else with just those fields changed.

    Values that are not changed keep their bytes. A streaming request always asks for usage.

    Raises:
        TrimtabError: INVALID_JSON.
    """
    options = request.stream_options
    asks_usage = not request.stream or (options is not None and options.include_usage)
    if asks_usage and request.model == model and not parameters and not overrides:
        return body
    try:
        fields = _decode_fields(body)
        for name, value in parameters.fields.items():
            fields.setdefault(name, value)
        fields.update(overrides.fields)
        if parameters.system_prompt is not None or overrides.system_prompt is not None:
            _set_system_prompt(fields, parameters.system_prompt, overrides.system_prompt)
        if request.model != model:
            fields["model"] = msgspec.Raw(_encode(model))
        if not asks_usage:
            given = _decode_fields(fields["stream_options"]) if options is not None else {}
            given["include_usage"] = msgspec.Raw(b"true")
            fields["stream_options"] = msgspec.Raw(_encode(given))
        return _encode(fields)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TrimtabError(Code.INVALID_JSON, f"The body is not valid JSON: {error}.") from None


class _Role(msgspec.Struct):
    role: str = ""


def _set_system_prompt(fields: dict[str, msgspec.Raw], default: msgspec.Raw | None, forced: msgspec.Raw | None) -> None:
    raw = fields.get("messages")
    if raw is None:
        return
    try:
        roles = msgspec.json.decode(raw, type=list[_Role])
        messages = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        return  # not a list of messages: the upstream says so in its own words
    system = [message.role in ("system", "developer") for message in roles]
    if forced is not None:
        messages = [forced, *(message for message, is_system in zip(messages, system, strict=True) if not is_system)]
    elif default is not None and not any(system):
        messages = [default, *messages]
    fields["messages"] = msgspec.Raw(_encode(messages))


# --- usage --------------------------------------------------------------------------------------------------------


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class ReportedUsage(msgspec.Struct):
    """`usage` as the upstream reports it: `prompt_tokens` includes what was read from and written to a cache."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None

    def buckets(self) -> Usage:
        """The same in disjoint buckets."""
        prompt, output = _count(self.prompt_tokens), _count(self.completion_tokens)
        details = self.prompt_tokens_details
        read = min(_count(details.cached_tokens), prompt) if details is not None else 0
        write = min(_count(details.cache_write_tokens), prompt - read) if details is not None else 0
        completion = self.completion_tokens_details
        reasoning = min(_count(completion.reasoning_tokens), output) if completion is not None else 0
        return Usage(prompt - read - write, read, write, output, reasoning, "upstream")


def _count(value: int | None) -> int:
    return 0 if value is None else min(max(value, 0), _MOST_TOKENS)


def estimate(request_bytes: int, output_tokens: int) -> Usage:
    """Usage where the upstream reported none; `output_tokens` as counted in the answer."""
    return Usage(input=max(1, request_bytes // BYTES_PER_TOKEN), output=output_tokens, source="estimated")


class _WholeChoice(msgspec.Struct):
    finish_reason: str | None = None
    message: msgspec.Raw = msgspec.Raw()


class _Whole(msgspec.Struct):
    choices: list[_WholeChoice] = []
    usage: ReportedUsage | None = None


_decode_whole = msgspec.json.Decoder(_Whole).decode


class Answer(msgspec.Struct, frozen=True):
    """What a whole answer says of itself.

    Parameters:
        valid: whether it is a JSON object at all.
        content_bytes: size of its messages, for estimates.
    """

    valid: bool
    usage: Usage | None = None
    finish_reason: str | None = None
    content_bytes: int = 0


def read_answer(body: bytes) -> Answer:
    """Read a chat completion that came whole; odd members are tolerated."""
    try:
        whole = _decode_whole(body)
    except msgspec.ValidationError:
        return Answer(valid=body.lstrip()[:1] == b"{", content_bytes=len(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Answer(valid=False)
    size = 0
    reason = None
    for choice in whole.choices:
        size += len(bytes(choice.message))
        reason = reason or choice.finish_reason
    return Answer(True, None if whole.usage is None else whole.usage.buckets(), reason, size)


# --- errors -------------------------------------------------------------------------------------------------------


def status_of(code: Code) -> int:
    """The HTTP status in this dialect: the registry's, but 400 for an invalid request."""
    return 400 if code is Code.INVALID_REQUEST else code.value.status


def error_body(code: Code, message: str, param: str | None = None) -> bytes:
    """The error object with its four members."""
    if code is Code.FORBIDDEN:
        kind = "permission_error"
    else:
        kind = "api_error" if code.value.status >= 500 else "invalid_request_error"
    return _encode(
        {"error": {"message": message, "type": kind, "param": param, "code": _OWN_CODES.get(code, code.text)}}
    )


def error_event(code: Code, message: str) -> bytes:
    """The same as an event in a stream; no `[DONE]` follows it."""
    return b"data: " + error_body(code, message) + b"\n\n"
