//! What stands behind a device on the host side.

pub mod chardev;
pub mod disk;
pub mod display;
pub mod drive;
pub mod input;
pub mod keys;
