"""Warnings: reported by every part of the daemon, kept until they are deleted or long over."""

from isola.warnings.warnings import Warnings as Warnings
