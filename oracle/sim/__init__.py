"""The embedded Alpaca-compatible exchange, its market sources and its server."""
