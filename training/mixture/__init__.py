"""Assignment by evidence: expectation-maximisation over predictors, and a selector that is taught what it finds."""
