"""Point tables of other tools: one reader a format, one record (`records`), one writer (`writing`)."""
