"""Authorisation: pure functions that decide what a caller may do."""

from isola.access.permission import Permission as Permission
from isola.access.permission import refusal as refusal
from isola.access.permission import refusal_of_shared as refusal_of_shared
