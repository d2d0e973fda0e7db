"""Commands, one small file per family."""
