"""What a run shows and records while it trains: metrics, curves, images, summaries."""
