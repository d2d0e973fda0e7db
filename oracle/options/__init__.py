"""Option mathematics and the live chain. Arrays in, arrays out; no I/O."""
