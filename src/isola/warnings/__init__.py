"""Warnings: reported by all parts of the daemon, kept until they are deleted or have been resolved for a while."""

from isola.warnings.warnings import Warnings as Warnings
