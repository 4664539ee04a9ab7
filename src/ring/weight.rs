//! A backend's weight: a decimal held exactly, and the number of virtual nodes that it makes.
//!
//! Owns reading, writing and rounding of weights. It never goes through floating point on the way to a node
//! count. Start at [`Weight::nodes`].

use std::{fmt, str::FromStr};

const DECIMALS: usize = 6;
const MILLIONTHS_PER_UNIT: u64 = 1_000_000;
const MAX_UNITS: u64 = 1_000_000;

/// A decimal from 0 to 1 000 000 with up to six decimals, kept exactly in millionths.
///
/// Read from plain decimal text (`1`, `0.5`; no sign, no exponent) and shown in its shortest form, which is
/// also the form that the [`Fingerprint`](super::Fingerprint) covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight {
    millionths: u64,
}

/// Why a text is not a [`Weight`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// Not digits, or digits, a point and digits.
    #[error("a weight is a plain decimal number such as 1 or 0.5")]
    NotDecimal,
    /// Below 0.
    #[error("a weight cannot be negative")]
    Negative,
    /// More than six digits after the point.
    #[error("a weight has at most {DECIMALS} decimals")]
    TooPrecise,
    /// Above 1 000 000.
    #[error("a weight is at most {MAX_UNITS}")]
    TooLarge,
}

impl Weight {
    /// No virtual nodes: the backend owns nothing.
    pub const ZERO: Weight = Weight { millionths: 0 };
    /// `replicas` virtual nodes.
    pub const ONE: Weight = Weight { millionths: MILLIONTHS_PER_UNIT };
    /// The largest weight, 1 000 000.
    pub const MAX: Weight = Weight { millionths: MAX_UNITS * MILLIONTHS_PER_UNIT };

    /// Whether this is 0.
    pub fn is_zero(self) -> bool {
        self.millionths == 0
    }

    /// The weight in millionths, 0 ..= 10^12.
    pub fn millionths(self) -> u64 {
        self.millionths
    }

    /// How many virtual nodes a backend of this weight has: `replicas` × weight, halves rounded up. None for
    /// weight 0, at least one for any other.
    pub fn nodes(self, replicas: u32) -> u64 {
        if self.is_zero() {
            return 0;
        }
        let replicas = u64::from(replicas);
        // Units and fraction apart, so that each product stays below 2^52.
        let (units, fraction) =
            (self.millionths / MILLIONTHS_PER_UNIT, self.millionths % MILLIONTHS_PER_UNIT);
        let rounded = (fraction * replicas + MILLIONTHS_PER_UNIT / 2) / MILLIONTHS_PER_UNIT;
        (units * replicas + rounded).max(1)
    }
}

impl FromStr for Weight {
    type Err = WeightError;

    fn from_str(text: &str) -> Result<Self, WeightError> {
        let (units, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(units.strip_prefix('-').unwrap_or(units)) || !digits(decimals) {
            return Err(WeightError::NotDecimal);
        }
        if units.starts_with('-') {
            return Err(WeightError::Negative);
        }
        if decimals.len() > DECIMALS {
            return Err(WeightError::TooPrecise);
        }
        // Digits alone can fail to parse only by being too many.
        let units: u64 = units.parse().map_err(|_| WeightError::TooLarge)?;
        let fraction: u64 = format!("{decimals:0<DECIMALS$}").parse().expect("these are six digits");
        let millionths =
            units.checked_mul(MILLIONTHS_PER_UNIT).ok_or(WeightError::TooLarge)?.saturating_add(fraction);
        let weight = Weight { millionths };
        if weight > Weight::MAX { Err(WeightError::TooLarge) } else { Ok(weight) }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, fraction) =
            (self.millionths / MILLIONTHS_PER_UNIT, self.millionths % MILLIONTHS_PER_UNIT);
        if fraction == 0 {
            return write!(f, "{units}");
        }
        let decimals = format!("{fraction:0DECIMALS$}");
        write!(f, "{units}.{}", decimals.trim_end_matches('0'))
    }
}
