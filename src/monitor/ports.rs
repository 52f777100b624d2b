//! `i`, `o`: ports, as a processor's IN and OUT reach them, with all effects that has.

use super::Session;
use super::arguments::Arguments;
use super::commands::Reply;
use super::error::MonitorError;
use super::expression;

/// A port access: its bytes in memory order, how many count, and the letter for that.
struct Width {
    bytes: usize,
    letter: char,
}

/// The width the format has; the next commands have it too.
fn width(session: &mut Session, arguments: &mut Arguments<'_>) -> Result<Width, MonitorError> {
    if let Some(text) = arguments.format() {
        (session.format, _) = session.format.changed(text)?;
    }
    let (bytes, letter) = match session.format.size() {
        2 => (2, 'w'),
        4 => (4, 'l'),
        // There are no wider ones.
        _ => (1, 'b'),
    };
    Ok(Width { bytes, letter })
}

fn value(
    session: &Session,
    arguments: &mut Arguments<'_>,
    what: &'static str,
) -> Result<u64, MonitorError> {
    let word = arguments.word(what)?;
    expression::value(word, &session.snapshot()?.state)
}

fn hex(bytes: [u8; 4], count: usize) -> String {
    let value = u32::from_le_bytes(bytes);
    format!("{value:#0digits$x}", digits = 2 + 2 * count)
}

/// `i`.
pub(super) fn input(session: &mut Session, mut arguments: Arguments<'_>) -> Reply {
    let Width { bytes, letter } = width(session, &mut arguments)?;
    let port = value(session, &mut arguments, "a port")? as u16;
    let index = match arguments.rest() {
        "" => None,
        _ => Some(value(session, &mut arguments, "an index")? as u8),
    };
    arguments.end()?;
    let (port, data) = session.ask(move |machine| {
        let board = machine.board();
        // An index register stands below its data.
        let port = match index {
            Some(index) => {
                board.port_write(port, &[index]);
                port.wrapping_add(1)
            }
            None => port,
        };
        let mut data = [0; 4];
        data[..bytes].fill(0xFF);
        board.port_read(port, &mut data[..bytes]);
        (port, data)
    })?;
    Ok(format!(
        "port{letter}[{port:#06x}] = {}\n",
        hex(data, bytes)
    ))
}

/// `o`.
pub(super) fn output(session: &mut Session, mut arguments: Arguments<'_>) -> Reply {
    let Width { bytes, .. } = width(session, &mut arguments)?;
    let port = value(session, &mut arguments, "a port")? as u16;
    let data = (value(session, &mut arguments, "a value")? as u32).to_le_bytes();
    arguments.end()?;
    session.ask(move |machine| machine.board().port_write(port, &data[..bytes]))?;
    Ok(String::new())
}
