"""Processes of a site: a child's life ends with its parent's, and one `voltage up` runs a data directory."""
