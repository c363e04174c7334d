"""Certificates: the server's own, those of trusted clients, tokens with which clients add theirs, and login tokens."""

from isola.certificates.certificates import Certificates as Certificates
from isola.certificates.identity import Identity as Identity
from isola.certificates.login_tokens import LoginTokens as LoginTokens
from isola.certificates.tokens import Tokens as Tokens
from isola.certificates.trust_password import TrustPassword as TrustPassword
