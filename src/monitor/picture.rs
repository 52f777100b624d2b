//! `screendump`: what is on the screen, as a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use devices::backend::display::Frame;

use super::Session;
use super::arguments::Arguments;
use super::commands::Reply;
use super::error::{MonitorError, nearest, shown};

/// The formats of pictures.
const FORMATS: &[(&str, Encode)] = &[("ppm", ppm), ("png", png)];

type Encode = fn(&Frame, &mut dyn Write) -> io::Result<()>;

/// `screendump`.
pub(super) fn screendump(session: &mut Session, mut arguments: Arguments<'_>) -> Reply {
    let mut path = None;
    let mut encode: Encode = ppm;
    while let Some(word) = arguments.optional() {
        if word == "-f" {
            encode = format(arguments.word("format")?)?;
        } else if path.replace(word).is_some() {
            return Err(MonitorError::Extra {
                command: arguments.command(),
            });
        }
    }
    let path = path.ok_or(MonitorError::Missing {
        command: arguments.command(),
        what: "filename",
    })?;
    let frame = session.ask(|machine| machine.board().display(|display| display.frame()))?;
    let frame = frame.ok_or(MonitorError::NoDisplay)?;
    let write = |path: &str| {
        let mut file = BufWriter::new(File::create(path)?);
        encode(&frame, &mut file)?;
        file.flush()
    };
    match write(path) {
        Ok(()) => Ok(String::new()),
        Err(source) => Err(MonitorError::File {
            path: shown(path),
            source,
        }),
    }
}

fn format(given: &str) -> Result<Encode, MonitorError> {
    let row = FORMATS.iter().find(|(name, _)| *name == given);
    row.map(|(_, encode)| *encode)
        .ok_or_else(|| MonitorError::Parameter {
            given: shown(given),
            nearest: nearest(given, FORMATS.iter().map(|(name, _)| *name)),
        })
}

/// Netpbm's format P6.
fn ppm(frame: &Frame, file: &mut dyn Write) -> io::Result<()> {
    write!(file, "P6\n{} {}\n255\n", frame.width, frame.height)?;
    file.write_all(&frame.rgb)
}

fn png(frame: &Frame, file: &mut dyn Write) -> io::Result<()> {
    let side = |pixels: usize| u32::try_from(pixels).map_err(io::Error::other);
    let mut encoder = png::Encoder::new(file, side(frame.width)?, side(frame.height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    let written = writer.write_image_data(&frame.rgb);
    written.map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encode: Encode) -> Vec<u8> {
        let mut frame = Frame::black(3, 2);
        frame.rgb[..6].copy_from_slice(&[255, 0, 0, 0, 255, 0]);
        let mut file = Vec::new();
        encode(&frame, &mut file).expect("memory takes it");
        file
    }

    #[test]
    fn a_ppm_is_header_and_pixels() {
        let file = encoded(ppm);
        assert_eq!(file[..11], *b"P6\n3 2\n255\n");
        assert_eq!(file[11..17], [255, 0, 0, 0, 255, 0]);
        assert_eq!(file.len(), 11 + 18);
    }

    #[test]
    fn a_png_reads_back() {
        let file = encoded(png);
        let decoder = png::Decoder::new(io::Cursor::new(file));
        let mut reader = decoder.read_info().expect("a header");
        let mut pixels = vec![0; 18];
        reader.next_frame(&mut pixels).expect("pixels");
        assert_eq!(pixels[..6], [255, 0, 0, 0, 255, 0]);
    }
}
