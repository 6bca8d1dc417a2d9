"""Folders of runs: which run a folder holds, how it goes on, and what is written there."""
