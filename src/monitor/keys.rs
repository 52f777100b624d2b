//! `sendkey`: keys go down together and come up again after a while, on a thread that types one
//! combination after the other.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use devices::backend::input::Key;

use super::Session;
use super::arguments::Arguments;
use super::commands::Reply;
use super::error::{MonitorError, nearest, shown};
use crate::control::Control;

/// How many keys go down together.
const MOST_KEYS: usize = 16;
/// How many combinations wait.
const MOST_WAITING: usize = 256;
/// How long they are held where nothing else is said.
const HOLD: Duration = Duration::from_millis(100);
/// How long they can be held, in milliseconds.
const LONGEST: u64 = 60_000;

/// Types.
pub struct Typist(SyncSender<Combination>);

struct Combination {
    keys: Vec<Key>,
    hold: Duration,
}

impl Typist {
    /// A typist at the machine `control` reaches; it goes when this value is dropped.
    fn start(control: Control) -> Result<Self, MonitorError> {
        let (sender, receiver) = sync_channel(MOST_WAITING);
        let thread = thread::Builder::new().name("sendkey".into());
        let started = thread.spawn(move || type_all(&control, &receiver));
        started.map_err(|_| MonitorError::Thread)?;
        Ok(Self(sender))
    }
}

/// Types until nobody has more to type, or the machine is gone.
fn type_all(control: &Control, wanted: &Receiver<Combination>) {
    for Combination { keys, hold } in wanted {
        let press = |keys: Vec<Key>, down| {
            control.ask(move |machine| {
                for key in keys {
                    machine.press_key(key, down);
                }
            })
        };
        if press(keys.clone(), true).is_none() {
            return;
        }
        thread::sleep(hold);
        if press(keys.into_iter().rev().collect(), false).is_none() {
            return;
        }
    }
}

/// `sendkey`.
pub(super) fn sendkey(session: &mut Session, mut arguments: Arguments<'_>) -> Reply {
    let keys = keys(arguments.word("keys")?)?;
    let hold = match arguments.optional() {
        None => HOLD,
        Some(given) => {
            let time = given.parse().ok().filter(|ms| *ms <= LONGEST);
            let time = time.ok_or_else(|| MonitorError::Number(shown(given)))?;
            Duration::from_millis(time)
        }
    };
    arguments.end()?;
    // Where the machine is gone, the typist's thread is too.
    session.ask(|_| ())?;
    let typist = match session.typist.take() {
        Some(typist) => typist,
        None => Typist::start(session.control.clone())?,
    };
    let sent = typist.0.try_send(Combination { keys, hold });
    session.typist = Some(typist);
    match sent {
        Ok(()) => Ok(String::new()),
        Err(TrySendError::Full(_)) => Err(MonitorError::Busy),
        Err(TrySendError::Disconnected(_)) => Err(MonitorError::Gone),
    }
}

/// The keys of a combination: names with dashes between them.
fn keys(given: &str) -> Result<Vec<Key>, MonitorError> {
    let invalid = |name: &str| MonitorError::Parameter {
        given: shown(name),
        nearest: nearest(name, Key::names()),
    };
    let found = given.split('-').map(|name| {
        let name = if name == "<" { "less" } else { name };
        Key::from_name(name).ok_or_else(|| invalid(name))
    });
    let keys = found.take(MOST_KEYS + 1).collect::<Result<Vec<_>, _>>()?;
    if keys.len() > MOST_KEYS {
        return Err(MonitorError::Count {
            command: "sendkey",
            count: keys.len() as u64,
            most: MOST_KEYS as u64,
        });
    }
    Ok(keys)
}
