"""Images: a content store for all of them, sources that fill it, and LXD's view of it."""

from isola.images.library import ImageLibrary
from isola.images.source import ImageSource, SourceRequest

__all__ = ["ImageLibrary", "ImageSource", "SourceRequest"]
