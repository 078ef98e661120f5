//! Durations as people type and read them: `250ms`, `2s`, `10m`, `24h`, `7d`.

use std::time::Duration;

/// Parses a whole number with a unit; `0` needs none.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text:?} is not a duration; write for example 250ms, 2s, 10m, 24h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| malformed())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 1,
        _ => return Err(malformed()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(malformed)
}

/// A duration in the one unit that suits it, for people.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 if seconds < 0.01 => format!("{:.1} ms", seconds * 1000.0),
        0 => format!("{:.0} ms", seconds * 1000.0),
        1..60 => format!("{seconds:.1} s"),
        s @ 60..3_600 => format!("{} min {} s", s / 60, s % 60),
        s @ 3_600..172_800 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        s => format!("{} days", s / 86_400),
    }
}

/// Milliseconds with three decimals, as every JSON shape gives them.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        for text in
            ["", "2", "s", "-1s", "1.5s", "2 s", "2S", "99999999999999999999s", "9999999999999999d"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_a_fitting_unit() {
        assert_eq!(show(Duration::from_micros(3_140)), "3.1 ms");
        assert_eq!(show(Duration::from_millis(250)), "250 ms");
        assert_eq!(show(Duration::from_millis(2_500)), "2.5 s");
        assert_eq!(show(Duration::from_secs(150)), "2 min 30 s");
        assert_eq!(show(Duration::from_secs(86_400)), "24 h 0 min");
        assert_eq!(millis(Duration::from_nanos(2_345_678)), 2.346);
    }
}
