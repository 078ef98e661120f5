//! The searchable data beside a node: the Substrate trait and the embedded default.
