"""A contract as an AsyncAPI 3 document, which tools draw, validate and generate code from."""

from __future__ import annotations

from typing import Any

import msgspec

from eventstore.contracts.contract import Contract, JsonSchema, MessageContract
from eventstore.messages.headers import (
    EXPECTED_VERSION,
    POSITION,
    REPLY_TO,
    RULES,
    Header,
)
from eventstore.messages.outcome import Outcome
from eventstore.messages.queries import WAIT_POSITION

_UUID = {"type": "string", "format": "uuid"}
_NUMBER = {"type": "string", "pattern": "^[0-9]+$"}
_EVENT_HEADERS: JsonSchema = {
    "type": "object",
    "properties": {
        **dict.fromkeys((Header.EVENT_ID, Header.CORRELATION_ID, Header.CAUSATION_ID), _UUID),
        Header.EVENT_TYPE: {"type": "string"},
        Header.AGGREGATE_ID: {
            "type": "string",
            "pattern": f"^{RULES[Header.AGGREGATE_ID][0].pattern}$",
        },
        Header.AGGREGATE_VERSION: _NUMBER,
        Header.SCHEMA_VERSION: _NUMBER,
        Header.TIMESTAMP: {"type": "string", "format": "date-time"},
        POSITION: _NUMBER,
    },
    "required": [
        *(Header.EVENT_ID, Header.EVENT_TYPE, Header.CORRELATION_ID, Header.CAUSATION_ID),
        *(Header.AGGREGATE_ID, Header.AGGREGATE_VERSION, Header.TIMESTAMP, POSITION),
    ],
}
_COMMAND_HEADERS: JsonSchema = {
    "type": "object",
    "properties": {
        Header.AGGREGATE_ID: {"type": "string"},
        Header.MESSAGE_ID: {"type": "string", "description": "Identifies the command for ever."},
        REPLY_TO: {"type": "string", "description": "The inbox to which the outcome is sent."},
        EXPECTED_VERSION: _NUMBER,
        Header.ACTOR: {"type": "string"},
    },
}
_QUERY_HEADERS: JsonSchema = {"type": "object", "properties": {WAIT_POSITION: _NUMBER}}
_ANSWER_HEADERS: JsonSchema = {"type": "object", "properties": {POSITION: _NUMBER}}


def asyncapi(contract: Contract) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of a contract, as JSON values.

    The application receives commands and queries, and sends events. A command's outcome goes to the
    inbox that its header names; a query is answered on NATS' reply subject.
    """
    document = _Document(contract)
    for each in contract.messages:
        document.add(each)
    return document.as_values()


class _Document:
    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._channels: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}
        self._messages: dict[str, Any] = {}
        self._schemas = _moved(contract.definitions)

    def add(self, message: MessageContract) -> None:
        """Add a message with its channel and its operation."""
        name = f"{message.kind}.{message.name}"
        headers = {"event": _EVENT_HEADERS, "command": _COMMAND_HEADERS, "query": _QUERY_HEADERS}
        channel = self._channel(name, message.subject)
        self._message(name, channel, message.name, message.schema, headers[message.kind])
        operation: dict[str, Any] = {
            "action": "send" if message.kind == "event" else "receive",
            "channel": {"$ref": f"#/channels/{channel}"},
        }
        if message.kind == "command":
            self._add_outcomes()
            address = {"location": f"$message.header#/{REPLY_TO}"}
            operation["reply"] = {"address": address, "channel": {"$ref": "#/channels/outcomes"}}
        elif message.kind == "query":
            answers = f"answer.{message.name}"
            self._channel(answers, None)
            schema = message.answer or {}
            self._message(answers, answers, f"answer to {message.name}", schema, _ANSWER_HEADERS)
            operation["reply"] = {"channel": {"$ref": f"#/channels/{answers}"}}
        self._operations[name] = operation

    def _add_outcomes(self) -> None:
        if "outcomes" not in self._channels:
            self._channel("outcomes", None)
            schema = msgspec.json.schema_components([Outcome])[1]["Outcome"]
            self._message("outcome", "outcomes", "Outcome", schema, {"type": "object"})

    def _channel(self, name: str, address: str | None) -> str:
        self._channels[name] = {"address": address, "messages": {}}
        return name

    def _message(
        self, key: str, channel: str, name: str, schema: JsonSchema, headers: JsonSchema
    ) -> None:
        self._messages[key] = {
            "name": name,
            "contentType": "application/json",
            "headers": headers,
            "payload": _moved(schema),
        }
        self._channels[channel]["messages"][key] = {"$ref": f"#/components/messages/{key}"}

    def as_values(self) -> dict[str, Any]:
        """The whole document."""
        info = {"title": self._contract.domain, "version": self._contract.version}
        if self._contract.description:
            info["description"] = self._contract.description
        return {
            "asyncapi": "3.0.0",
            "info": info,
            "defaultContentType": "application/json",
            "channels": self._channels,
            "operations": self._operations,
            "components": {"messages": self._messages, "schemas": self._schemas},
        }


def _moved(schema: Any) -> Any:
    """A schema whose references lead to the components of the document."""
    text = msgspec.json.encode(schema)
    return msgspec.json.decode(text.replace(b'"#/definitions/', b'"#/components/schemas/'))
