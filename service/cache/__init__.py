"""The embedding cache: one entry per session, shared by all visitors, in the process or in Redis."""
