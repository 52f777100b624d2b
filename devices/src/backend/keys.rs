//! The keys of a PC keyboard: their names, and what the keyboard sends for them.
//!
//! Names are those of the stock monitor's `sendkey`. Codes: IBM PS/2 Technical Reference, "Keyboard (101- and
//! 102-key)", scan code sets 2 and 3; the keys of later keyboards: Microsoft, "Keyboard Scan Code
//! Specification" 1.3a. Set 1 is set 2 as the keyboard controller translates it.

/// A key, by its place on the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u8);

/// What a key sends in scan code set 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set2 {
    /// One code.
    Plain(u8),
    /// E0h and one code.
    Extended(u8),
    /// The key PrtSc/SysRq: what it sends depends on the modifiers.
    Print,
    /// The key Pause/Break: the same, and it sends nothing when released.
    Pause,
}

impl Key {
    /// The key of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let index = KEYS.iter().position(|row| row.0 == name)?;
        u8::try_from(index).ok().map(Self)
    }

    /// Its name (the first, where it has several).
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KEYS.iter().map(|row| row.0)
    }

    /// What it sends in set 2.
    pub fn set2(self) -> Set2 {
        self.row().1
    }

    /// What it sends in set 3; none where only later keyboards have the key.
    pub fn set3(self) -> Option<u8> {
        Some(self.row().2).filter(|code| *code != 0)
    }

    fn row(self) -> &'static (&'static str, Set2, u8) {
        // Only `from_name` makes keys, out of this table.
        &KEYS[usize::from(self.0) % KEYS.len()]
    }
}

const fn plain(code: u8) -> Set2 {
    Set2::Plain(code)
}

const fn e0(code: u8) -> Set2 {
    Set2::Extended(code)
}

/// Name, set 2, set 3.
#[rustfmt::skip]
const KEYS: &[(&str, Set2, u8)] = &[
    ("esc", plain(0x76), 0x08),
    ("f1", plain(0x05), 0x07), ("f2", plain(0x06), 0x0F), ("f3", plain(0x04), 0x17), ("f4", plain(0x0C), 0x1F),
    ("f5", plain(0x03), 0x27), ("f6", plain(0x0B), 0x2F), ("f7", plain(0x83), 0x37), ("f8", plain(0x0A), 0x3F),
    ("f9", plain(0x01), 0x47), ("f10", plain(0x09), 0x4F), ("f11", plain(0x78), 0x56), ("f12", plain(0x07), 0x5E),
    ("f13", plain(0x08), 0), ("f14", plain(0x10), 0), ("f15", plain(0x18), 0), ("f16", plain(0x20), 0),
    ("f17", plain(0x28), 0), ("f18", plain(0x30), 0), ("f19", plain(0x38), 0), ("f20", plain(0x40), 0),
    ("f21", plain(0x48), 0), ("f22", plain(0x50), 0), ("f23", plain(0x57), 0), ("f24", plain(0x5F), 0),
    ("print", Set2::Print, 0x57), ("sysrq", plain(0x84), 0x57), ("scroll_lock", plain(0x7E), 0x5F), ("pause", Set2::Pause, 0x62),
    ("grave_accent", plain(0x0E), 0x0E),
    ("1", plain(0x16), 0x16), ("2", plain(0x1E), 0x1E), ("3", plain(0x26), 0x26), ("4", plain(0x25), 0x25),
    ("5", plain(0x2E), 0x2E), ("6", plain(0x36), 0x36), ("7", plain(0x3D), 0x3D), ("8", plain(0x3E), 0x3E),
    ("9", plain(0x46), 0x46), ("0", plain(0x45), 0x45), ("minus", plain(0x4E), 0x4E), ("equal", plain(0x55), 0x55),
    ("backspace", plain(0x66), 0x66), ("yen", plain(0x6A), 0x5D),
    ("tab", plain(0x0D), 0x0D),
    ("q", plain(0x15), 0x15), ("w", plain(0x1D), 0x1D), ("e", plain(0x24), 0x24), ("r", plain(0x2D), 0x2D),
    ("t", plain(0x2C), 0x2C), ("y", plain(0x35), 0x35), ("u", plain(0x3C), 0x3C), ("i", plain(0x43), 0x43),
    ("o", plain(0x44), 0x44), ("p", plain(0x4D), 0x4D),
    ("bracket_left", plain(0x54), 0x54), ("bracket_right", plain(0x5B), 0x5B), ("backslash", plain(0x5D), 0x5C),
    ("caps_lock", plain(0x58), 0x14),
    ("a", plain(0x1C), 0x1C), ("s", plain(0x1B), 0x1B), ("d", plain(0x23), 0x23), ("f", plain(0x2B), 0x2B),
    ("g", plain(0x34), 0x34), ("h", plain(0x33), 0x33), ("j", plain(0x3B), 0x3B), ("k", plain(0x42), 0x42),
    ("l", plain(0x4B), 0x4B), ("semicolon", plain(0x4C), 0x4C), ("apostrophe", plain(0x52), 0x52), ("ret", plain(0x5A), 0x5A),
    ("shift", plain(0x12), 0x12), ("less", plain(0x61), 0x13),
    ("z", plain(0x1A), 0x1A), ("x", plain(0x22), 0x22), ("c", plain(0x21), 0x21), ("v", plain(0x2A), 0x2A),
    ("b", plain(0x32), 0x32), ("n", plain(0x31), 0x31), ("m", plain(0x3A), 0x3A),
    ("comma", plain(0x41), 0x41), ("dot", plain(0x49), 0x49), ("slash", plain(0x4A), 0x4A), ("ro", plain(0x51), 0x51),
    ("shift_r", plain(0x59), 0x59),
    ("ctrl", plain(0x14), 0x11), ("meta_l", e0(0x1F), 0x8B), ("alt", plain(0x11), 0x19), ("spc", plain(0x29), 0x29),
    ("alt_r", e0(0x11), 0x39), ("meta_r", e0(0x27), 0x8C), ("menu", e0(0x2F), 0x8D), ("compose", e0(0x2F), 0x8D), ("ctrl_r", e0(0x14), 0x58),
    ("muhenkan", plain(0x67), 0x85), ("henkan", plain(0x64), 0x86), ("hiragana", plain(0x13), 0x87), ("katakanahiragana", plain(0x13), 0x87),
    ("lang1", plain(0xF2), 0), ("lang2", plain(0xF1), 0),
    ("insert", e0(0x70), 0x67), ("home", e0(0x6C), 0x6E), ("pgup", e0(0x7D), 0x6F),
    ("delete", e0(0x71), 0x64), ("end", e0(0x69), 0x65), ("pgdn", e0(0x7A), 0x6D),
    ("up", e0(0x75), 0x63), ("left", e0(0x6B), 0x61), ("down", e0(0x72), 0x60), ("right", e0(0x74), 0x6A),
    ("num_lock", plain(0x77), 0x76), ("kp_divide", e0(0x4A), 0x77), ("kp_multiply", plain(0x7C), 0x7E), ("asterisk", plain(0x7C), 0x7E),
    ("kp_subtract", plain(0x7B), 0x84), ("kp_add", plain(0x79), 0x7C), ("kp_enter", e0(0x5A), 0x79), ("kp_decimal", plain(0x71), 0x71),
    ("kp_0", plain(0x70), 0x70), ("kp_1", plain(0x69), 0x69), ("kp_2", plain(0x72), 0x72), ("kp_3", plain(0x7A), 0x7A),
    ("kp_4", plain(0x6B), 0x6B), ("kp_5", plain(0x73), 0x73), ("kp_6", plain(0x74), 0x74), ("kp_7", plain(0x6C), 0x6C),
    ("kp_8", plain(0x75), 0x75), ("kp_9", plain(0x7D), 0x7D), ("kp_comma", plain(0x6D), 0x7B), ("kp_equals", plain(0x0F), 0),
    ("power", e0(0x37), 0), ("sleep", e0(0x3F), 0), ("wake", e0(0x5E), 0),
    ("audionext", e0(0x4D), 0), ("audioprev", e0(0x15), 0), ("audiostop", e0(0x3B), 0), ("audioplay", e0(0x34), 0),
    ("audiomute", e0(0x23), 0), ("volumeup", e0(0x32), 0), ("volumedown", e0(0x21), 0), ("mediaselect", e0(0x50), 0),
    ("mail", e0(0x48), 0), ("calculator", e0(0x2B), 0), ("computer", e0(0x40), 0),
    ("ac_home", e0(0x3A), 0), ("ac_back", e0(0x38), 0), ("ac_forward", e0(0x30), 0),
    ("ac_refresh", e0(0x20), 0), ("ac_bookmarks", e0(0x18), 0), ("find", e0(0x10), 0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_one_key_and_every_key_its_name() {
        let names: BTreeSet<_> = Key::names().collect();
        assert_eq!(names.len(), KEYS.len());
        for name in names {
            assert_eq!(Key::from_name(name).map(Key::name), Some(name));
        }
        assert_eq!(Key::from_name("any"), None);
    }
}
