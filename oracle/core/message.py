"""The base of every message. Messages are frozen msgspec structs with a tag, so that the journal can hold them."""

import msgspec


class Message(msgspec.Struct, frozen=True, tag_field="T", tag=True):
    """Base of all messages."""
