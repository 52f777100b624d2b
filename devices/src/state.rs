//! Saved state: each device's fields, versioned, in a compact form.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The saved state of one device.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct State {
    version: u32,
    bytes: Vec<u8>,
}

/// Why a saved state was refused.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The state comes from a newer build.
    #[error("saved state is version {found}, this build reads up to {known}")]
    Version {
        /// The version found in the state.
        found: u32,
        /// The newest version this build reads.
        known: u32,
    },
    /// The bytes do not form the fields expected.
    #[error("saved state is damaged")]
    Damaged(#[from] postcard::Error),
    /// A field holds what the device can never hold.
    #[error("saved state has an impossible {field}")]
    Impossible {
        /// The field.
        field: &'static str,
    },
}

impl State {
    /// Saves `fields` as version `version`.
    ///
    /// # Panics
    /// Never for plain data: postcard fails only on types without a known length.
    pub fn of<T: Serialize>(version: u32, fields: &T) -> Self {
        let bytes = postcard::to_stdvec(fields).expect("device state is plain data");
        Self { version, bytes }
    }

    /// Reads the fields back; `known` is the newest version this build understands.
    ///
    /// # Errors
    /// If the version is newer than `known`, or the bytes are damaged.
    pub fn fields<T: DeserializeOwned>(&self, known: u32) -> Result<T, RestoreError> {
        if self.version > known {
            return Err(RestoreError::Version {
                found: self.version,
                known,
            });
        }
        Ok(postcard::from_bytes(&self.bytes)?)
    }

    /// The version this state was saved as.
    pub fn version(&self) -> u32 {
        self.version
    }
}
