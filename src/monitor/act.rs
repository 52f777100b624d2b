//! Commands that act on the machine.

use super::Session;
use super::arguments::Arguments;
use super::commands::Reply;
use super::error::MonitorError;
use crate::control::Pause;

fn done(result: Result<(), MonitorError>) -> Reply {
    result.map(|()| String::new())
}

/// `stop`.
pub(super) fn stop(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    done(session.ask(|machine| {
        if machine.paused().is_none() {
            machine.pause(Pause::User);
        }
    }))
}

/// `cont`.
pub(super) fn cont(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let resumed = session.ask(|machine| {
        if machine.paused() == Some(Pause::Shutdown) {
            return Err(MonitorError::Off);
        }
        machine.resume();
        Ok(())
    });
    done(resumed.flatten())
}

/// `system_reset`.
pub(super) fn system_reset(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    done(session.ask(|machine| machine.request_reset()))
}

/// `system_powerdown`.
pub(super) fn system_powerdown(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    done(session.ask(|machine| machine.press_power()))
}

/// `nmi`.
pub(super) fn nmi(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    done(session.ask(|machine| machine.board().chips().pulse_nmi()))
}

/// `quit`.
pub(super) fn quit(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    session.control.quit();
    Ok(String::new())
}
