"""Persistent data: a small ordered key-value store, implemented by SQLite; etcd can be added as a second driver."""

from isola.state.codec import mapping_codec, record_codec
from isola.state.collection import Codec, Collection, Keyed, Scoped, Versioned
from isola.state.described import Described
from isola.state.intents import Intent, Intents
from isola.state.references import References, Role
from isola.state.store import Change, Check, Delete, Entry, Expect, Lease, Put, Snapshot, Step, Store

__all__ = [
    "Change",
    "Check",
    "Codec",
    "Collection",
    "Delete",
    "Described",
    "Entry",
    "Expect",
    "Intent",
    "Intents",
    "Keyed",
    "Lease",
    "Put",
    "References",
    "Role",
    "Scoped",
    "Snapshot",
    "Step",
    "Store",
    "Versioned",
    "mapping_codec",
    "record_codec",
]
