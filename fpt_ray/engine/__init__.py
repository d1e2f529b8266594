"""Engines: each owns one device and trains the packs of a sweep on it, one actor of Ray each."""
