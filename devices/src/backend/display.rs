//! What a display adapter shows, as the host side looks at it.

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Pixels in a line.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// Red, green, blue of each pixel, line after line.
    pub rgb: Vec<u8>,
}

impl Frame {
    /// A black picture.
    pub fn black(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            rgb: vec![0; width * height * 3],
        }
    }
}

/// A screen of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Characters in a row.
    pub columns: usize,
    /// The rows, each as its characters.
    pub rows: Vec<String>,
    /// Column and row of the cursor, if it is on the screen and not turned off.
    pub cursor: Option<(usize, usize)>,
}

/// A function that drives a monitor.
pub trait Display {
    /// The picture as it is now.
    fn frame(&self) -> Frame;
    /// The characters, while the adapter shows text.
    fn text(&self) -> Option<Text>;
}
