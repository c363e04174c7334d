"""Repositories: the store as registries show it, beside LXD's view of it."""

from isola.images.repositories.pushing import Pushed
from isola.images.repositories.records import RepositoryRecords
from isola.images.repositories.repositories import Repositories
from isola.images.repositories.uploads import Upload, WrongOffset
from isola.images.repositories.views import Referrers, StoredBlob, StoredManifest, TaggedManifest

__all__ = [
    "Pushed",
    "Referrers",
    "Repositories",
    "RepositoryRecords",
    "StoredBlob",
    "StoredManifest",
    "TaggedManifest",
    "Upload",
    "WrongOffset",
]
