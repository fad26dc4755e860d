"""What every other part stands on: errors, atomic writing, objects built by their names."""
