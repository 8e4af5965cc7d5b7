//! Numbers as readers of the report see them.

/// A count with its thousands apart.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in percent.
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", share * 100.0) } else { "-".to_owned() }
}

/// The 95 % interval of a share that was counted among `of` images: Wilson's, from 0 to 1.
pub(crate) fn wilson(share: f64, of: u64) -> (f64, f64) {
    const Z: f64 = 1.959_964;
    let n = of.max(1) as f64;
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// A code as words: `exact_duplicate` is `exact duplicate`.
pub(crate) fn words(code: &str) -> String {
    code.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), text);
        }
    }

    #[test]
    fn the_interval_is_wilsons() {
        // Wilson's formula in Python: 0.32798, 0.51794.
        let (low, high) = wilson(0.42, 100);
        assert!((low - 0.327_98).abs() < 1e-4 && (high - 0.517_94).abs() < 1e-4, "{low} {high}");
        assert_eq!(wilson(0.0, 10).0, 0.0);
        assert!(wilson(1.0, 10).1 > 0.999 && wilson(1.0, 10).0 < 0.8);
    }
}
