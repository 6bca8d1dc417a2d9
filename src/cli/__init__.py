"""What every command shares: how it starts, and how a mistake becomes a sentence."""
