"""The commands of `voltage`, one file a subject; `services.cli` imports each only when it is called."""
