"""The stages in order: options, sessions, searches, sweeps, and the functions that users call."""
