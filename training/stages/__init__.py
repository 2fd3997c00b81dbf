"""The stages of a training, which `training.pipeline` strings together; each goes on from the run's directory."""
