"""The oracle: the masked original, agreement, structure. Shares no code with the transforms."""
