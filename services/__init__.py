"""One folder a service; they meet only in Redis and over HTTP."""
