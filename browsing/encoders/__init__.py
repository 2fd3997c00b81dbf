"""Encoders: what a session is turned into before the selector sees it. All implement `browsing.encoder.Encoder`."""
