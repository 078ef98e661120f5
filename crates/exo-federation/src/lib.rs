//! A federation of searchable collections over a post-quantum network: the library and its driver.
