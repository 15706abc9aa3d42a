"""How far two models' outputs are apart: damage, metrics with their intervals, the answers they are taken from."""
