"""Protocols. `registry.protocols()` finds them; nothing else imports a plugin."""
