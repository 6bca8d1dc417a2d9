"""Tables and figures of the paper, from the logged files of finished runs alone."""
