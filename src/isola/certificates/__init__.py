"""Certificates: the server's own, those of the clients it trusts, and tokens by which clients add theirs."""

from isola.certificates.certificates import Certificates as Certificates
from isola.certificates.identity import Identity as Identity
from isola.certificates.tokens import Tokens as Tokens
