"""Doors from other tools: each module is loaded by the tool that it is for, and needs that tool's package."""
