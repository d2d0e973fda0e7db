"""The broker's edge: wire shapes, translation, supervised feeds, REST gateway."""
