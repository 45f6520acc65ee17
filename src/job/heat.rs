//! Temperature and clock of the processor, where the system reports them (Linux).

use std::fs;
use std::path::Path;

/// Temperature, clock and throttling at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Heat {
    /// The warmest sensor, in degrees Celsius.
    pub celsius: Option<f64>,
    /// The slowest core's clock, in MHz.
    pub megahertz: Option<f64>,
    /// Whether the processor is or was throttled by heat or under-voltage since boot; only a Raspberry Pi reports
    /// this.
    pub throttled: Option<bool>,
}

impl Heat {
    pub fn now() -> Heat {
        Heat::at(Path::new("/sys"))
    }

    fn at(sys: &Path) -> Heat {
        let number =
            |path: &Path| -> Option<f64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
        let each = |folder: &str, file: &str| -> Vec<f64> {
            let entries = fs::read_dir(sys.join(folder)).into_iter().flatten();
            let paths = entries.flatten().map(|entry| entry.path().join(file));
            paths.filter_map(|path| number(&path)).collect()
        };
        let flags = sys.join("devices/platform/soc/soc:firmware/get_throttled");
        let flags = fs::read_to_string(flags).ok();
        Heat {
            // Thousandths of a degree; a sensor without a value reports 0 or less.
            celsius: each("class/thermal", "temp")
                .into_iter()
                .map(|t| t / 1e3)
                .filter(|t| (1.0..200.0).contains(t))
                .reduce(f64::max),
            megahertz: each("devices/system/cpu", "cpufreq/scaling_cur_freq")
                .into_iter()
                .map(|kilohertz| kilohertz / 1e3)
                .reduce(f64::min),
            throttled: flags
                .and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok())
                .map(|flags| flags != 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raspberry_pi_tells_all_and_a_machine_that_tells_nothing_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Heat::at(dir.path()), Heat::default());
        for (file, text) in [
            ("class/thermal/thermal_zone0/temp", "61835\n"),
            ("class/thermal/thermal_zone1/temp", "0\n"),
            (
                "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
                "1500000\n",
            ),
            (
                "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq",
                "1400000\n",
            ),
            ("devices/platform/soc/soc:firmware/get_throttled", "50000\n"),
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let expected = Heat {
            celsius: Some(61.835),
            megahertz: Some(1400.0),
            throttled: Some(true),
        };
        assert_eq!(Heat::at(dir.path()), expected);
    }
}
