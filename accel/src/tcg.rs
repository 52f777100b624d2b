//! The software CPU as an engine.
