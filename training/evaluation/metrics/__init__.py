"""What is computed: definitions as functions of arrays, and their intervals by resampling users."""
