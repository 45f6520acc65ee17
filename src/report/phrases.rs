//! Times, numbers and differences as people say them.

/// "27 pictures in 3 classes".
pub fn pictures_in(pictures: usize, classes: usize) -> String {
    let pictures_end = if pictures == 1 { "" } else { "s" };
    let classes_end = if classes == 1 { "" } else { "es" };
    format!("{pictures} picture{pictures_end} in {classes} class{classes_end}")
}

/// Seconds as `4.2 s`, `3 min 05 s` or `2 h 07 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A difference of accuracies, −1 to 1, as `+1.35 points, may be noise (± 2.10)`; it may be noise within `margin`.
pub fn difference(mean: f32, margin: f32) -> String {
    let verdict = match mean.abs() > margin {
        true => "more than noise",
        false => "may be noise",
    };
    format!(
        "{:+.2} points, {verdict} (± {:.2})",
        100.0 * mean,
        100.0 * margin
    )
}

/// What is told of a recipe that was cross-validated; `compared` is its difference to the best before it, and the
/// margin of that.
pub fn recipe_line(recipe: &str, accuracy: f32, compared: Option<(f32, f32)>) -> String {
    let compared = compared.map_or(String::new(), |(mean, margin)| {
        format!(", {} than the best before it", difference(mean, margin))
    });
    format!("recipe {recipe}: accuracy {accuracy:.4}{compared}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_tell_whether_they_may_be_noise() {
        assert_eq!(
            difference(0.0135, 0.021),
            "+1.35 points, may be noise (± 2.10)"
        );
        assert_eq!(
            difference(-0.05, 0.021),
            "-5.00 points, more than noise (± 2.10)"
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
