//! A seeded simulator.
