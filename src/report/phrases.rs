//! Durations and differences as text.

/// Seconds as `4.2 s`, `3 min 05 s` or `2 h 07 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A difference of accuracies, −1 to 1, as `+1.35 points, not significant (± 2.10)`; it is not significant within `margin`.
pub fn difference(mean: f32, margin: f32) -> String {
    let verdict = match mean.abs() > margin {
        true => "significant",
        false => "not significant",
    };
    format!(
        "{:+.2} points, {verdict} (± {:.2})",
        100.0 * mean,
        100.0 * margin
    )
}

/// Describes a cross-validated recipe; `compared` is its difference from the best before it, with the margin.
pub fn recipe_line(recipe: &str, accuracy: f32, compared: Option<(f32, f32)>) -> String {
    let compared = compared.map_or(String::new(), |(mean, margin)| {
        format!(", {} vs best so far", difference(mean, margin))
    });
    format!("recipe {recipe}: accuracy {accuracy:.4}{compared}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_tell_whether_they_are_significant() {
        assert_eq!(
            difference(0.0135, 0.021),
            "+1.35 points, not significant (± 2.10)"
        );
        assert_eq!(
            difference(-0.05, 0.021),
            "-5.00 points, significant (± 2.10)"
        );
    }

    #[test]
    fn durations_have_the_unit_that_is_read_at_a_glance() {
        let cases = [
            (4.23, "4.2 s"),
            (185.0, "3 min 05 s"),
            (7620.0, "2 h 07 min"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
