"""Tables, statistics and figures of finished runs, from their logged files alone."""
