"""The numeric engine: models, tokens, sampling, likelihoods, scores and objectives. Importing it imports torch."""
