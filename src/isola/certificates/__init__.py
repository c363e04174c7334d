"""Certificates: the server's own, those of trusted clients, and tokens with which clients add theirs."""

from isola.certificates.certificates import Certificates as Certificates
from isola.certificates.identity import Identity as Identity
from isola.certificates.tokens import Tokens as Tokens
from isola.certificates.trust_password import TrustPassword as TrustPassword
