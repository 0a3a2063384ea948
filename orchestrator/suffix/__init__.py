"""What a text has in common with itself and with reference documents: suffix automata over token ids."""
