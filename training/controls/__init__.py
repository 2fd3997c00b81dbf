"""Controls: what clustering has to beat at equal numbers of training tokens."""
