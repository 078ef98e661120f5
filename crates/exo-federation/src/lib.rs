//! A federation of searchable collections over a post-quantum network: the library and its driver.

pub mod config;
pub mod driver;
pub mod error;
pub mod view;

pub use config::Config;
pub use error::{ErrorCode, FederationError};
