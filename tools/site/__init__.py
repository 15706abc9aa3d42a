"""What the documentation site has beside the pages in docs/: pages of the root, of the commands and of the schemas."""
