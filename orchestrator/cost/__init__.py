"""What a decode costs by its rows: measured once per model and machine, kept, refined while decoding."""
