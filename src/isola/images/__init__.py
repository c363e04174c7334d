"""Images: one content store for every kind, sources that fill it, LXD's view of it."""

from isola.images.library import ImageLibrary
from isola.images.source import ImageSource, SourceRequest

__all__ = ["ImageLibrary", "ImageSource", "SourceRequest"]
