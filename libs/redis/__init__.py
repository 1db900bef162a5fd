"""Redis: connections, keys, the function library. The only place that imports redis."""
