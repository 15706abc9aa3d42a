"""The parts of tools/gallery.py."""
