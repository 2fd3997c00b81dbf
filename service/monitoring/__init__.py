"""Whether what is asked and answered still resembles what the bundle was trained on."""
