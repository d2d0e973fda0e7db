"""The deterministic middle: messages, time, instruments, money, bus, engine and ledger. No I/O, no clock."""
