"""Who may do what: decided here, purely, before anything is done."""

from isola.access.permission import Permission as Permission
from isola.access.permission import refusal as refusal
from isola.access.permission import refusal_of_shared as refusal_of_shared
