//! Commands that act on the machine.

use super::Session;
use super::arguments::Arguments;
use super::commands::Reply;
use super::error::MonitorError;
use crate::accel_option::Candidate;
use crate::choose::open_named;
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

/// `accel_set`. The engine is opened here, beside the machine, which runs on meanwhile.
pub(super) fn accel_set(session: &mut Session, mut arguments: Arguments<'_>) -> Reply {
    let given = arguments.word("tcg or kvm")?;
    arguments.end()?;
    let candidate = Candidate::parse("accel_set", given)?;
    let name = candidate.engine.name();
    let (now, has) =
        session.ask(move |machine| (machine.identity().engine, machine.has_engine(name)))?;
    if now == name {
        return Ok(format!("the machine runs on {name} already\n"));
    }
    if !has {
        let accel = open_named(candidate).map_err(|error| MonitorError::Open {
            error: Box::new(error),
        })?;
        session.ask(move |machine| machine.add_engine(&*accel))??;
    }
    session.ask(move |machine| machine.switch_engine(name))??;
    Ok(String::new())
}
