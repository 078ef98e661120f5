//! Replicas from outside: bugs that others shipped, restarts at every effect, frozen encodings, seeds.

mod fetching;
mod frozen;
mod lab;
mod model;
mod new_views;
mod ordering;
mod restarts;
mod samples;
mod seeds;
mod shipped_checkpoints;
mod shipped_crashes;
mod shipped_membership;
mod shipped_views;
mod signatures;
mod unsigned;
