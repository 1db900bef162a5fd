"""The journal of alarms: its chain, its files on disk, its pages and its export."""
