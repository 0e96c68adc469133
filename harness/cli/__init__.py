"""What every command shares: signals, exit codes, errors, words."""
