<<<<<<< HEAD
"""Tables and figures of the paper."""
=======
"""Reading finished sweeps: tables, figures and pages, from the logged files alone."""
>>>>>>> e22f8d5 (Studies of the paper by name, sweeps that go on, a search by Optuna, and reports)
