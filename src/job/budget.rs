//! A time budget as people write it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How long a job may try things; written as `90s`, `10m` or `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Budget(Duration);

impl Budget {
    /// The duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for Budget {
    /// Ten minutes.
    fn default() -> Budget {
        Budget(Duration::from_secs(600))
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Budget, Error> {
        let wrong = || Error::Parameter {
            name: "--budget",
            value: text.to_owned(),
            problem: "write a time in seconds, minutes or hours, such as 90s, 10m or 1h".into(),
        };
        let unit = text.chars().last().ok_or_else(wrong)?;
        let seconds: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
        // Clocks cannot represent more than some hundreds of years.
        let seconds = number
            .checked_mul(seconds)
            .filter(|&seconds| seconds <= u64::from(u32::MAX));
        Ok(Budget(Duration::from_secs(seconds.ok_or_else(wrong)?)))
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 => f.write_str("0s"),
            s if s % 3600 == 0 => write!(f, "{}h", s / 3600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

impl TryFrom<String> for Budget {
    type Error = Error;

    fn try_from(text: String) -> Result<Budget, Error> {
        text.parse()
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> String {
        budget.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("10m", 600), ("2h", 7200)] {
            let budget: Budget = text.parse().unwrap();
            assert_eq!(budget.duration().as_secs(), seconds);
            assert_eq!(budget.to_string(), text);
        }
        assert_eq!(Budget::default().to_string(), "10m");
        for text in [
            "",
            "10",
            "m",
            "-1m",
            "1.5h",
            "10 minutes",
            "9999999999999999999h",
            "9999999999h",
            "5ä",
        ] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }
}
