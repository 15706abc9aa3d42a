"""The oracle: the masked original, agreement, structure. Shares no code with the transforms.

Tables of operators here (which normalize, which decide, which round) are their own on purpose, and do not read the
records of `onnxmi.operators`: a mistake in a record must not hide itself from what checks it.
"""
