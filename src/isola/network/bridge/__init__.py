"""Managed bridges: the link, packet filter rules, DHCP and DNS."""
