"""The prompt library where the gateway keeps it: its records and its folder, and the gate before its labels."""
