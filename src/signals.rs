//! Signals to the program: those that end programs end the run, so that the terminal is put back and
//! images are whole; SIGTSTP stops the guest's time with the program.

use std::io;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::console::terminal::Terminal;
use crate::control::Control;

/// Serves signals from now on, in a thread of its own.
///
/// # Errors
/// If the host refuses.
pub fn serve(control: Control, terminal: Arc<Terminal>) -> io::Result<()> {
    let served = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGCONT];
    let mut signals = Signals::new(served)?;
    let thread = thread::Builder::new().name("signals".into());
    let serve = move || {
        for signal in signals.forever() {
            match signal {
                SIGTSTP => {
                    // Between two instructions; before and after the run there is no time to stop.
                    let shared = Arc::clone(&terminal);
                    let stopped =
                        control.ask(move |machine| machine.without_time(|| stop(&shared)));
                    stopped.unwrap_or_else(|| stop(&terminal));
                }
                // The shell has had the terminal.
                SIGCONT => terminal.take_again(),
                _ => {
                    tracing::warn!(target: "machine", "terminating on signal {signal}");
                    control.quit();
                }
            }
        }
    };
    thread.spawn(serve).map(drop)
}

/// Stops the program, until SIGCONT.
fn stop(terminal: &Terminal) {
    terminal.give_back();
    if let Err(error) = emulate_default_handler(SIGTSTP) {
        tracing::warn!(target: "machine", %error, "cannot stop");
    }
    terminal.take_again();
}
