"""What may not be asked or answered: rails that find it in a text, and what is done about it on both ways."""
