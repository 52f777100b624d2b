//! The text screen as characters: what text modes keep in planes 0 and 1.

use crate::backend::display::Text;
use crate::vga::registers::Registers;

/// Code page 437, as the BIOS's fonts draw it; zero and 255 are blanks.
#[rustfmt::skip]
const CP437: &str = concat!(
    " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼",
    " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~⌂",
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐",
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ",
);

/// A character of text mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The character's code.
    pub code: u8,
    /// Its colors.
    pub attribute: u8,
}

/// The cell at `address` of the planes; addresses wrap.
pub fn cell(planes: &[u8], address: usize) -> Cell {
    let at = address % (planes.len() / 4).max(1) * 4;
    let byte = |at| planes.get(at).copied().unwrap_or(0);
    Cell {
        code: byte(at),
        attribute: byte(at + 1),
    }
}

/// The characters on the screen; `planes` is video memory from its start.
pub fn dump(regs: &Registers, planes: &[u8]) -> Option<Text> {
    if !regs.is_text() {
        return None;
    }
    let crtc = &regs.crtc;
    let (columns, start, pitch) = (crtc.columns(), usize::from(crtc.start()), crtc.pitch());
    let height = crtc.row_height() << u32::from(crtc.is_doubled());
    let count = (crtc.lines() / height).max(1);
    let set: Vec<char> = CP437.chars().collect();
    let row = |row: usize| {
        let first = start + row * pitch;
        let code = |column| usize::from(cell(planes, first + column).code);
        (0..columns).map(|column| set[code(column)]).collect()
    };
    Some(Text {
        columns,
        rows: (0..count).map(row).collect(),
        cursor: crtc.cursor().and_then(|cursor| {
            let from_start = usize::from(cursor.address).checked_sub(start)?;
            let at = (from_start % pitch.max(1), from_start / pitch.max(1));
            (at.0 < columns && at.1 < count).then_some(at)
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_page_has_256_characters() {
        let set: Vec<char> = CP437.chars().collect();
        assert_eq!(set.len(), 256);
        for (code, expected) in [
            (0x41, 'A'),
            (0x7F, '⌂'),
            (0x80, 'Ç'),
            (0xB3, '│'),
            (0xDB, '█'),
        ] {
            assert_eq!(set[code], expected);
        }
        assert_eq!((set[0xE1], set[0xFB], set[0xFE]), ('ß', '√', '■'));
    }
}
