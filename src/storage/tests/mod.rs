//! What the engine does when things go wrong.
