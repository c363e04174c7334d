"""The moment at which everything that stands in memory happens."""

from datetime import UTC, datetime

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
