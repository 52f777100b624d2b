//! PIIX3 IDE.

mod drive;

pub use drive::{Drive, Medium, Tray};
