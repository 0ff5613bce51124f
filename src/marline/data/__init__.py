"""Logs on disk and on the device."""
