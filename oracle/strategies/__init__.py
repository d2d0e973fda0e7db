"""Plugins, one file each: they read the market and emit intents; they have no authority."""
