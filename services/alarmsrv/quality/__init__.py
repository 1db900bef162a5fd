"""How good the alarms of a site are: rates, floods, chattering, what to change."""
