//! One gdb, from its connection to its end.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Receiver;

use accel::{DebugPoints, DebugStop, WatchKind};
use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, SingleThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind as Told;

use super::listener::Event;
use super::target::{Chosen, Guest, TargetGone};
use crate::control::{Control, Pause};
use crate::socket::Peer;

/// The connection as the protocol writes to it: whole packets at once.
struct Line {
    peer: Peer,
    packet: Vec<u8>,
}

impl Connection for Line {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.packet.push(byte);
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.packet.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.peer.write_all(&self.packet);
        self.packet.clear();
        result
    }
}

/// How a session ended.
enum End {
    /// By gdb's wish.
    Wish(DisconnectReason),
    /// The connection is gone, or what came over it is not the protocol.
    Broken,
    /// The machine's run is over.
    Over,
}

type Protocol<'a, 'g> = GdbStubStateMachine<'a, Guest<'g>, Line>;

/// The protocol cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ProtocolError(String);

type Next<'a, 'g> = Result<Protocol<'a, 'g>, ProtocolError>;

fn told<'a, 'g, E: std::fmt::Display>(result: Result<Protocol<'a, 'g>, E>) -> Next<'a, 'g> {
    result.map_err(|error| ProtocolError(error.to_string()))
}

/// Serves a gdb. Breaks when the machine's run is over.
pub(super) fn serve(
    control: &Control,
    form: &Chosen,
    inbox: &Receiver<Event>,
    peer: Peer,
    status: &AtomicU8,
) -> ControlFlow<()> {
    let mut guest = Guest::new(control.clone(), form);
    let Ok(stood) = guest.ask(|machine| {
        let stood = machine.paused();
        if stood.is_none() {
            machine.pause(Pause::User);
        }
        stood
    }) else {
        return ControlFlow::Break(());
    };
    tracing::debug!(target: "gdb", "gdb has connected");
    let (end, peer) = talk(&mut guest, inbox, peer, status);
    if let Some(peer) = peer {
        peer.shut();
    }
    let result = match end {
        End::Over => return ControlFlow::Break(()),
        End::Wish(DisconnectReason::Kill) => {
            tracing::warn!(target: "gdb", "terminating: gdb killed the guest");
            control.quit();
            return ControlFlow::Continue(());
        }
        End::Wish(_) => let_go(&guest, None),
        End::Broken => let_go(&guest, stood),
    };
    if let Err(error) = result {
        tracing::warn!(target: "gdb", "{error}");
    }
    ControlFlow::Continue(())
}

/// Removes all points. The guest goes on, unless it stands still for another reason than gdb:
/// as it did before gdb came, or turned off.
fn let_go(guest: &Guest<'_>, stood: Option<Pause>) -> Result<(), TargetGone> {
    guest.ask(move |machine| {
        machine.set_debug(&DebugPoints::default())?;
        let stays = |why| why == Pause::Shutdown || Some(why) == stood;
        if machine.paused().is_some_and(|why| !stays(why)) {
            machine.resume();
        }
        Ok(())
    })?
}

/// Speaks the protocol to the end of the session.
fn talk(
    guest: &mut Guest<'_>,
    inbox: &Receiver<Event>,
    peer: Peer,
    status: &AtomicU8,
) -> (End, Option<Peer>) {
    let closer = peer.try_clone().ok();
    let line = Line {
        peer,
        packet: Vec::new(),
    };
    let started = GdbStub::new(line).run_state_machine(guest);
    let mut protocol = match told(started) {
        Ok(protocol) => protocol,
        Err(_) => return (End::Broken, closer),
    };
    loop {
        let next = match inbox.recv() {
            Err(_) | Ok(Event::Over) => {
                farewell(guest, protocol, status.load(Ordering::Relaxed));
                return (End::Over, closer);
            }
            // A second connection waits for this one's end.
            Ok(Event::Gone | Event::Connected(_)) => return (End::Broken, closer),
            Ok(Event::News) => on_news(guest, protocol),
            Ok(Event::Bytes(bytes)) => on_bytes(guest, protocol, &bytes),
        };
        protocol = match next {
            Ok(GdbStubStateMachine::Disconnected(end)) => {
                return (End::Wish(end.get_reason()), closer);
            }
            Ok(protocol) => protocol,
            Err(error) => {
                tracing::debug!(target: "gdb", "the session ends: {error}");
                return (End::Broken, closer);
            }
        };
    }
}

fn on_bytes<'a, 'g>(
    guest: &mut Guest<'g>,
    mut protocol: Protocol<'a, 'g>,
    bytes: &[u8],
) -> Next<'a, 'g> {
    for &byte in bytes {
        let idle = matches!(protocol, GdbStubStateMachine::Idle(_));
        protocol = match protocol {
            GdbStubStateMachine::Idle(gdb) => told(gdb.incoming_data(guest, byte))?,
            GdbStubStateMachine::Running(gdb) => told(gdb.incoming_data(guest, byte))?,
            other => other,
        };
        if let GdbStubStateMachine::CtrlCInterrupt(gdb) = protocol {
            // The stop that gdb waits for may have crossed its interrupt.
            let reason = match idle {
                true => None,
                false => Some(interrupt(guest).map_err(|e| ProtocolError(e.to_string()))?),
            };
            protocol = told(gdb.interrupt_handled(guest, reason))?;
        }
    }
    Ok(protocol)
}

/// Stops the guest, if it has not stopped by itself meanwhile.
fn interrupt(guest: &Guest<'_>) -> Result<SingleThreadStopReason<u64>, TargetGone> {
    let pause = guest.ask(|machine| {
        if machine.paused().is_none() {
            machine.pause(Pause::User);
        }
        machine.paused()
    })?;
    reason(guest, pause.unwrap_or(Pause::User))
}

/// The machine has stopped, or goes on. Old news is no news: what counts is how it stands now.
fn on_news<'a, 'g>(guest: &mut Guest<'g>, protocol: Protocol<'a, 'g>) -> Next<'a, 'g> {
    let GdbStubStateMachine::Running(gdb) = protocol else {
        return Ok(protocol);
    };
    let stop = guest.ask(|machine| machine.paused());
    let stop = stop.map_err(|e| ProtocolError(e.to_string()))?;
    match stop {
        None => Ok(gdb.into()),
        Some(pause) => {
            let reason = reason(guest, pause).map_err(|e| ProtocolError(e.to_string()))?;
            told(gdb.report_stop(guest, reason))
        }
    }
}

/// Why the machine stands still, in gdb's words.
fn reason(guest: &Guest<'_>, pause: Pause) -> Result<SingleThreadStopReason<u64>, TargetGone> {
    Ok(match pause {
        Pause::Prelaunch | Pause::User => SingleThreadStopReason::Signal(Signal::SIGINT),
        Pause::Shutdown => SingleThreadStopReason::Signal(Signal::SIGQUIT),
        Pause::Debug(DebugStop::Step) => SingleThreadStopReason::DoneStep,
        Pause::Debug(DebugStop::Breakpoint(at)) => {
            let rip = guest.ask(|machine| machine.state().map(|state| state.rip))??;
            if rip == at {
                SingleThreadStopReason::SwBreak(())
            } else {
                // gdb ignores a breakpoint that it does not find at RIP.
                SingleThreadStopReason::Signal(Signal::SIGTRAP)
            }
        }
        Pause::Debug(DebugStop::Watchpoint(point)) => SingleThreadStopReason::Watch {
            tid: (),
            kind: match point.kind {
                WatchKind::Write => Told::Write,
                WatchKind::Read => Told::Read,
                WatchKind::Access => Told::ReadWrite,
            },
            addr: point.address,
        },
    })
}

/// The run is over: gdb is told, if it waits for the guest.
fn farewell<'g>(guest: &mut Guest<'g>, protocol: Protocol<'_, 'g>, status: u8) {
    if let GdbStubStateMachine::Running(gdb) = protocol {
        // gdb may be gone too.
        let _ = gdb.report_stop(guest, SingleThreadStopReason::Exited(status));
    }
}
