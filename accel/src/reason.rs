//! Why KVM is not to be had, in words for who could change it.

use std::fmt;
use std::time::Duration;

use crate::{AccelError, VcpuExit};

/// Why no KVM answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The processor could, but its module is not loaded.
    NotLoaded {
        /// The module for this processor.
        module: &'static str,
    },
    /// This is a virtual machine whose processor shows no virtualisation.
    NotNested {
        /// The flag that `/proc/cpuinfo` lacks.
        flag: &'static str,
    },
    /// The processor has none, or the firmware has it switched off.
    Off {
        /// The flag that `/proc/cpuinfo` lacks.
        flag: &'static str,
    },
    /// A module is loaded, but this process cannot see its node.
    Hidden {
        /// The module.
        module: &'static str,
    },
    /// No processor that KVM has a module for.
    OtherProcessor,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded { module } => write!(f, "module {module} is not loaded"),
            Self::NotNested { flag } => write!(
                f,
                "/proc/cpuinfo lacks {flag}: this is a virtual machine without nested virtualisation"
            ),
            Self::Off { flag } => write!(f, "/proc/cpuinfo lacks {flag}"),
            Self::Hidden { module } => write!(f, "module {module} is loaded, its node is not here"),
            Self::OtherProcessor => f.write_str("KVM has no module for this processor"),
        }
    }
}

impl Absence {
    /// What would change it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NotLoaded { module } => format!("load it: sudo modprobe {module}"),
            Self::NotNested { .. } => {
                "nested virtualisation is turned on at this machine's host".to_string()
            }
            Self::Off { .. } => {
                "turn on VT-x (Intel) or SVM (AMD) in the firmware's setup, if the processor has it"
                    .to_string()
            }
            Self::Hidden { .. } => {
                "a container needs the device passed on: --device /dev/kvm".to_string()
            }
            Self::OtherProcessor => return None,
        })
    }
}

/// Why a user may not open the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The node is a group's, and the user is not in it.
    NotInGroup {
        /// The user's name, or number.
        user: String,
        /// The group's name, or number.
        group: String,
    },
    /// The user is in the group by now, but logged in before that.
    OldLogin {
        /// The user's name, or number.
        user: String,
        /// The group's name, or number.
        group: String,
    },
    /// The node is for its owner alone.
    OwnerOnly {
        /// The user's name, or number.
        user: String,
        /// The node's permission bits.
        mode: u32,
        /// The owner's name, or number.
        owner: String,
    },
    /// The node's permissions do allow it.
    Elsewhere {
        /// The user's name, or number.
        user: String,
    },
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInGroup { user, group } => {
                write!(f, "user {user}, who is not in group {group}")
            }
            Self::OldLogin { user, group } => {
                write!(f, "user {user}, who was not yet in group {group} at login")
            }
            Self::OwnerOnly { user, mode, owner } => {
                write!(f, "user {user}: it is {owner}'s alone (mode {mode:03o})")
            }
            Self::Elsewhere { user } => write!(
                f,
                "user {user}, though its mode allows it: a container or security module refuses"
            ),
        }
    }
}

impl Denial {
    /// What would change it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NotInGroup { user, group } => {
                format!("join it: sudo usermod -aG {group} {user}, then log in again")
            }
            Self::OldLogin { group, .. } => format!("log in again, or: newgrp {group}"),
            Self::OwnerOnly { user, .. } => format!(
                "give it to group kvm and join that: sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm && sudo usermod -aG kvm {user}"
            ),
            Self::Elsewhere { .. } => {
                "a container needs the device passed on: --device /dev/kvm".to_string()
            }
        })
    }
}

/// What went wrong in a step of the start-up probe.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFault {
    /// The engine gave up.
    #[error("{}", .0.brief())]
    Engine(#[source] Box<AccelError>),
    /// The guest computed something else.
    #[error("the guest's answer is {}, not {expected:#x}", answer(*.found))]
    Answer {
        /// What it computes on a processor.
        expected: u32,
        /// What it gave.
        found: Option<u32>,
    },
    /// The guest did not end by HLT.
    #[error("the guest ended by {0:?}")]
    Ended(VcpuExit),
    /// The guest did not end.
    #[error("the guest did not end within {} ms", .0.as_millis())]
    Hung(Duration),
}

fn answer(found: Option<u32>) -> String {
    found.map_or("missing".to_string(), |found| format!("{found:#x}"))
}

impl From<AccelError> for ProbeFault {
    fn from(error: AccelError) -> Self {
        Self::Engine(Box::new(error))
    }
}
