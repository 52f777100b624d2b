//! What the user does at the machine: keys, mouse, and the button on its case.
//!
//! The host feeds it, then lets the board look ([`Board::poll_device`](crate::board::build::Board::poll_device));
//! devices take from it what they have room for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crate::backend::keys::Key;

/// How many events wait for a guest that does not take them; more are lost.
const LIMIT: usize = 1024;

bitflags::bitflags! {
    /// Buttons of a mouse.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    pub struct Buttons: u8 {
        /// Left.
        const LEFT = 1 << 0;
        /// Right.
        const RIGHT = 1 << 1;
        /// Middle: the wheel.
        const MIDDLE = 1 << 2;
        /// Fourth: "back".
        const SIDE = 1 << 3;
        /// Fifth: "forward".
        const EXTRA = 1 << 4;
    }
}

/// A key goes down (again, where the host repeats it) or up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// It does.
    Key {
        /// Which.
        key: Key,
        /// Down or up.
        down: bool,
    },
    /// Events before this one were lost: nobody took them in time.
    Lost,
}

/// The mouse has moved, with its buttons as they were meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Motion {
    /// To the right.
    pub dx: i32,
    /// Down, towards the user.
    pub dy: i32,
    /// The wheel, up, away from the user.
    pub wheel: i32,
    /// What is held down.
    pub buttons: Buttons,
}

/// The user's side of keyboard, mouse and power button; every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Input(Arc<Mutex<Queues>>);

#[derive(Debug, Default)]
struct Queues {
    keys: VecDeque<KeyEvent>,
    motions: VecDeque<Motion>,
    buttons: Buttons,
    power: bool,
}

impl Input {
    /// A key goes down or up.
    pub fn key(&self, key: Key, down: bool) {
        let mut queues = self.lock();
        let event = match queues.keys.len() {
            ..LIMIT => KeyEvent::Key { key, down },
            LIMIT => KeyEvent::Lost,
            _ => return,
        };
        queues.keys.push_back(event);
    }

    /// The mouse moves: to the right, down, and its wheel up.
    pub fn move_mouse(&self, dx: i32, dy: i32, wheel: i32) {
        let mut queues = self.lock();
        let motion = Motion {
            dx,
            dy,
            wheel,
            buttons: queues.buttons,
        };
        queues.push(motion);
    }

    /// Buttons of the mouse go down or up.
    pub fn mouse_button(&self, which: Buttons, down: bool) {
        let mut queues = self.lock();
        queues.buttons.set(which, down);
        let motion = Motion {
            buttons: queues.buttons,
            ..Motion::default()
        };
        queues.push(motion);
    }

    /// The power button is pressed.
    pub fn press_power(&self) {
        self.lock().power = true;
    }

    /// Takes the next key.
    pub fn next_key(&self) -> Option<KeyEvent> {
        self.lock().keys.pop_front()
    }

    /// Takes the next motion.
    pub fn next_motion(&self) -> Option<Motion> {
        self.lock().motions.pop_front()
    }

    /// Takes a press of the power button.
    pub fn take_power(&self) -> bool {
        std::mem::take(&mut self.lock().power)
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// Queues a motion; one that changes no button joins the one before it.
    fn push(&mut self, motion: Motion) {
        let full = self.motions.len() >= LIMIT;
        match self.motions.back_mut() {
            Some(last) if last.buttons == motion.buttons => {
                last.dx = last.dx.saturating_add(motion.dx);
                last.dy = last.dy.saturating_add(motion.dy);
                last.wheel = last.wheel.saturating_add(motion.wheel);
            }
            _ if !full => self.motions.push_back(motion),
            // The last one then says how the buttons stand, whatever is lost in between.
            Some(last) => last.buttons = motion.buttons,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn motion_joins_but_clicks_stay_apart() {
        let input = Input::default();
        input.move_mouse(1, 2, 0);
        input.move_mouse(i32::MAX, -5, 1);
        input.mouse_button(Buttons::LEFT, true);
        input.mouse_button(Buttons::LEFT, false);
        let motion = |dx, dy, wheel, buttons| Motion {
            dx,
            dy,
            wheel,
            buttons,
        };
        let taken: Vec<_> = std::iter::from_fn(|| input.next_motion()).collect();
        let expected = [
            motion(i32::MAX, -3, 1, Buttons::empty()),
            motion(0, 0, 0, Buttons::LEFT),
            motion(0, 0, 0, Buttons::empty()),
        ];
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_guest_that_takes_nothing_costs_no_memory() {
        let input = Input::default();
        let key = Key::from_name("a").unwrap();
        for n in 0..3 * LIMIT {
            input.key(key, true);
            input.mouse_button(Buttons::RIGHT, n % 2 == 0);
        }
        let keys: Vec<_> = std::iter::from_fn(|| input.next_key()).collect();
        assert_eq!((keys.len(), keys[LIMIT]), (LIMIT + 1, KeyEvent::Lost));
        let motions: Vec<_> = std::iter::from_fn(|| input.next_motion()).collect();
        assert_eq!(motions.len(), LIMIT);
        assert_eq!(motions[LIMIT - 1].buttons, Buttons::empty());
    }

    #[test]
    fn power_is_pressed_once() {
        let input = Input::default();
        input.press_power();
        assert_eq!((input.take_power(), input.take_power()), (true, false));
    }
}
