"""The host's side of the guest agent: see ``isola/agent/PROTOCOL.md``. Everything from a guest is untrusted."""
