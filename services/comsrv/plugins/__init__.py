"""Protocols. `registry.protocols()` finds them by entry point; nothing else imports a plugin."""
