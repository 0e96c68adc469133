"""What is asked for, and what it resolves to on this machine: refused here or not at all."""
