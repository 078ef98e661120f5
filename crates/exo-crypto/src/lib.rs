//! Identity keys, sealing, signatures and key files of exo-federation, over well-kept libraries.
