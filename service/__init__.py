"""From a bundle to answers: POST /predict and what it stands on."""
